"""The ways to ask, per skill and language. The tables of `HELD` are never used in training.

Placeholders: {thing} a name without article, {a_thing} in English with "a" or "any", {is} "is" or "are", {it} "it" or
"they", {side} a side of the picture.
"""
from __future__ import annotations

Table = dict[str, dict[str, tuple[str, ...]]]

TRAIN: Table = {
    "name": {
        "zh": ("这是什么？", "图里是什么？", "图里有什么？", "这张图片里有什么？", "图片里有什么？", "图中是什么？", "图中有什么？",
               "这张图里有什么？", "你看到了什么？", "画的是什么？", "这张图画的是什么？", "请告诉我这是什么。", "图上有什么？",
               "这是什么东西？", "图片上是什么？", "这幅图里画了什么？"),
        "en": ("What is this?", "What is in this picture?", "What is in the picture?", "What do you see?", "What is it?",
               "What can you see in the picture?", "What is shown here?", "What does the picture show?", "What's this?",
               "What's in the picture?", "Tell me what this is.", "What is in this image?", "What is in the image?",
               "What is this a picture of?", "What do you see in this picture?", "Name what you see."),
    },
    "background": {
        "zh": ("背景是什么颜色？", "背景是什么颜色的？", "底色是什么？", "背景颜色是什么？", "图片的背景是什么颜色？", "后面是什么颜色？",
               "这张图的背景是什么颜色？", "背景的颜色是什么？", "底色是什么颜色？", "请说出背景的颜色。", "它的背景是什么颜色？", "背景什么颜色？"),
        "en": ("What color is the background?", "What is the background color?", "What colour is the background?",
               "What is the color of the background?", "Which color is the background?", "What color is behind it?",
               "Tell me the color of the background.", "What is the background?", "Name the background color.",
               "Which color does the background have?", "What is the colour of the background?",
               "What color does the background have?"),
    },
    "count": {
        "zh": ("图中有几样东西？", "图里有几样东西？", "有几个东西？", "一共有几样东西？", "图中有多少样东西？", "图里有多少东西？", "图里有几个东西？",
               "这张图片里有几样东西？", "数一数有几样东西。", "图中一共有几个物体？", "有多少个物体？", "图片里有几个东西？"),
        "en": ("How many things are there?", "How many things are in the picture?", "How many objects are there?",
               "How many objects are in the picture?", "How many things do you see?", "Count the things.",
               "Count the objects in the picture.", "How many things can you see?", "How many are there?",
               "How many objects do you see?", "How many things are in this image?", "What is the number of things?"),
    },
    "place": {
        "zh": ("{side}是什么？", "{side}有什么？", "图的{side}是什么？", "图片{side}是什么？", "最{side}是什么？", "在{side}的是什么？",
               "{side}的东西是什么？", "图中{side}有什么？", "图里{side}是什么？", "请问{side}是什么？", "你看到{side}有什么？", "画面{side}是什么？"),
        "en": ("What is {side}?", "What is {side} of the picture?", "What do you see {side}?", "Which thing is {side}?",
               "What can you see {side}?", "What's {side}?", "Tell me what is {side}.", "What thing is {side}?",
               "Which object is {side}?", "What is shown {side}?", "What is {side} in this picture?", "Name the thing {side}."),
    },
    "where": {
        "zh": ("{thing}在哪里？", "{thing}在哪儿？", "{thing}在图的哪里？", "{thing}在什么地方？", "{thing}在图片的什么位置？", "请问{thing}在哪里？",
               "{thing}的位置在哪里？", "{thing}在图中哪里？", "{thing}在哪个位置？", "告诉我{thing}在哪里。"),
        "en": ("Where {is} the {thing}?", "Where {is} the {thing} in the picture?", "Where can I find the {thing}?",
               "Where do you see the {thing}?", "In which part of the picture {is} the {thing}?", "Where {is} the {thing} in this image?",
               "Tell me where the {thing} {is}.", "Where in the picture {is} the {thing}?", "Find the {thing}.",
               "Which part of the picture has the {thing}?"),
    },
    "where-it": {
        "zh": ("它在哪里？", "它在哪儿？", "它在图的哪里？", "在哪里？", "它在图片的什么位置？", "它在什么地方？", "它在哪个位置？", "它的位置在哪里？",
               "它在图中哪里？", "请问它在哪里？"),
        "en": ("Where is it?", "Where is it in the picture?", "Where can I find it?", "In which part of the picture is it?",
               "Where?", "Tell me where it is.", "Where do you see it?", "Where in the picture is it?", "And where is it?",
               "Which part of the picture is it in?"),
    },
    "yesno": {
        "zh": ("图里有{thing}吗？", "图中有{thing}吗？", "有{thing}吗？", "这张图片里有{thing}吗？", "图片里有{thing}吗？", "有没有{thing}？",
               "图里有没有{thing}？", "你看到{thing}了吗？", "能看到{thing}吗？", "这里有{thing}吗？", "这张图里有{thing}吗？", "图上有{thing}吗？"),
        "en": ("{is} there {a_thing} in the picture?", "{is} there {a_thing}?", "Do you see {a_thing}?",
               "Can you see {a_thing}?", "{is} there {a_thing} in this picture?", "Does the picture show {a_thing}?",
               "{is} there {a_thing} here?", "{is} there {a_thing} in the image?", "Does this picture have {a_thing}?",
               "Do you see {a_thing} in the picture?", "Can you see {a_thing} in this image?",
               "Can you find {a_thing}?"),
    },
    "list": {
        "zh": ("请列出图中所有东西。", "图里都有什么？", "图中都有哪些东西？", "有哪些东西？", "列出你看到的东西。", "图片里都有些什么？", "图里有哪些东西？",
               "把图里的东西都说出来。", "请说出图中的所有东西。", "都有什么？", "你都看到了哪些东西？", "这张图里都有什么？"),
        "en": ("List everything in the picture.", "What are all the things in the picture?", "List all things.",
               "Which things are in the picture?", "What things do you see?", "List all the objects.", "List what you see.",
               "Name all the things in the picture.", "Name everything you see.", "Tell me all the things you see.",
               "What objects are in the picture?", "Which objects do you see?"),
    },
    "category": {
        "zh": ("{thing}是哪一类东西？", "{thing}属于哪一类？", "{thing}是什么类别？", "{thing}是什么种类？", "{thing}是一种什么？", "{thing}属于什么类别？",
               "{thing}是哪一种东西？", "{thing}算什么？", "{thing}属于什么？", "{thing}是什么类型的东西？"),
        "en": ("What kind of thing is the {thing}?", "What kind of thing {is} {a_thing}?", "What type of thing is the {thing}?",
               "Which category does the {thing} belong to?", "What category is the {thing}?", "What sort of thing is the {thing}?",
               "Which kind of thing is the {thing}?", "What is the category of the {thing}?", "Tell me what kind of thing the {thing} {is}.",
               "What group does the {thing} belong to?"),
    },
    "category-it": {
        "zh": ("它是哪一类东西？", "它属于哪一类？", "它是什么类别？", "它是什么种类？", "它是一种什么？", "它属于什么类别？", "它是哪一种东西？",
               "这是哪一类东西？", "这属于什么类别？", "它是什么类型的东西？", "它属于什么？", "它算什么？"),
        "en": ("What kind of thing is it?", "What type of thing is it?", "Which category does it belong to?",
               "What category is it?", "What sort of thing is it?", "What kind of thing is this?", "Which kind of thing is it?",
               "What is its category?", "Tell me what kind of thing it is.", "What group does it belong to?"),
    },
    "edible": {
        "zh": ("{thing}能吃吗？", "{thing}可以吃吗？", "{thing}能不能吃？", "{thing}可不可以吃？", "人能吃{thing}吗？", "我能吃{thing}吗？",
               "{thing}是可以吃的吗？", "{thing}好吃吗？", "可以吃{thing}吗？", "{thing}是食品吗？"),
        "en": ("Can the {thing} be eaten?", "Can I eat the {thing}?", "{is} the {thing} edible?", "Can you eat {a_thing}?",
               "Can people eat {a_thing}?", "Can we eat the {thing}?", "Can one eat {a_thing}?", "Can {a_thing} be eaten?",
               "Can I eat {a_thing}?", "Tell me if the {thing} can be eaten."),
    },
    "edible-it": {
        "zh": ("它能吃吗？", "它可以吃吗？", "它能不能吃？", "能吃吗？", "可以吃吗？", "这能吃吗？", "人能吃它吗？", "我能吃它吗？", "它是可以吃的吗？",
               "这个能吃吗？", "这个可以吃吗？", "它可不可以吃？"),
        "en": ("Can it be eaten?", "Can I eat it?", "Is it edible?", "Can you eat it?", "Can people eat it?", "Can we eat it?",
               "Is this edible?", "Can I eat this?", "Can one eat it?", "Tell me if it can be eaten.", "Could I eat it?",
               "Can this be eaten?"),
    },
    "describe": {
        "zh": ("请描述这张图片。", "描述一下这张图。", "描述图片。", "说说这张图片。", "请描述一下图片的内容。", "介绍一下这张图。", "这张图是什么样的？",
               "用一句话描述这张图。", "请说说图里的内容。", "描述一下。", "看图说话。", "请描述这幅画。"),
        "en": ("Describe it.", "Describe this image.", "Describe the picture.", "Describe this picture.", "Tell me about the picture.",
               "Describe what you see.", "Please describe the picture.", "Tell me about this image.", "Describe the image.",
               "What does the picture look like?", "Describe the picture in one sentence.", "Give a description of the picture."),
    },
    "greeting": {
        "zh": ("你好", "你好！", "您好。", "嗨", "早上好。", "晚上好！", "大家好。", "你好啊", "哈喽", "在吗？"),
        "en": ("Hello", "Hello!", "Hi", "Hi there.", "Good morning.", "Good evening!", "Hey", "Hello there.", "Hey there!", "Greetings."),
    },
    "thanks": {
        "zh": ("谢谢", "谢谢你！", "多谢。", "非常感谢。", "太好了，谢谢。", "谢谢您。", "感谢你的回答。", "谢了", "辛苦了。", "好的，谢谢。"),
        "en": ("Thanks", "Thank you!", "Thank you very much.", "Thanks a lot.", "Many thanks.", "Great, thanks.", "Thank you for the answer.",
               "OK, thank you.", "Thanks for your help.", "Very good, thank you."),
    },
    "goodbye": {
        "zh": ("再见", "再见！", "拜拜", "下次见。", "我走了。", "明天见。", "晚安。", "回头见。", "我先走了，再见。", "好的，再见。"),
        "en": ("Goodbye", "Bye", "Bye bye!", "See you.", "See you later.", "Good night.", "See you tomorrow.", "I have to go.",
               "OK, bye.", "Goodbye for now."),
    },
    "self": {
        "zh": ("你是谁？", "你叫什么名字？", "你的名字是什么？", "介绍一下你自己。", "你是什么？", "请介绍你自己。", "你是什么模型？", "你是人吗？", "怎么称呼你？",
               "请问你是谁？"),
        "en": ("Who are you?", "What is your name?", "What are you?", "Introduce yourself.", "Tell me about yourself.", "What's your name?",
               "What model are you?", "Are you a human?", "May I know your name?", "Please introduce yourself."),
    },
    "ability": {
        "zh": ("你能做什么？", "你会什么？", "你可以做什么？", "你有什么用？", "你会做什么？", "你能帮我做什么？", "你有什么功能？", "你能干什么？", "怎么用你？", "你擅长什么？"),
        "en": ("What can you do?", "What do you do?", "How can you help me?", "What are you good at?", "What can you help me with?",
               "How do I use you?", "What are you for?", "Tell me what you can do.", "What can I ask you?", "What are your skills?"),
    },
    "random": {"zh": (), "en": ()},
}

HELD: Table = {
    "name": {"zh": ("请问图里是什么？", "这个是什么？", "图片中有什么？"),
             "en": ("What can you see?", "What do you see here?", "Please tell me what this is.")},
    "background": {"zh": ("背景颜色是哪种？", "图的底色是什么颜色？"), "en": ("Which color is the background of the picture?", "What color is the background of this image?")},
    "count": {"zh": ("请数一数图里有几样东西。", "图片里一共有多少样东西？"), "en": ("How many objects can you see?", "How many things are shown?")},
    "place": {"zh": ("请告诉我{side}是什么。", "这张图{side}有什么？"), "en": ("What object is {side}?", "What is there {side}?")},
    "where": {"zh": ("{thing}在图片的哪里？", "请告诉我{thing}在哪儿。"), "en": ("Where in this picture {is} the {thing}?", "Please find the {thing}.")},
    "where-it": {"zh": ("它在图片的哪里？", "请告诉我它在哪儿。"), "en": ("Where in this picture is it?", "Where can you see it?")},
    "yesno": {"zh": ("图片上有没有{thing}？", "请问图里有{thing}吗？"), "en": ("Does this image show {a_thing}?", "Can you see {a_thing} here?")},
    "list": {"zh": ("请列出图里的所有东西。", "图片里有哪些东西？"), "en": ("List all the things you see.", "Name all the objects in this picture.")},
    "category": {"zh": ("请问{thing}属于哪一类？", "{thing}属于哪个类别？"), "en": ("What kind of object is the {thing}?", "Which group does the {thing} belong to?")},
    "category-it": {"zh": ("请问它属于哪一类？", "它属于哪个类别？"), "en": ("What kind of object is it?", "Which group does it belong to?")},
    "edible": {"zh": ("请问{thing}能吃吗？", "人可以吃{thing}吗？"), "en": ("Could I eat the {thing}?", "Can people eat the {thing}?")},
    "edible-it": {"zh": ("请问它能吃吗？", "人可以吃它吗？"), "en": ("Could we eat it?", "Can people eat this?")},
    "describe": {"zh": ("请描述一下这幅图。", "说说图片的内容。"), "en": ("Please describe this image.", "Tell me about this picture.")},
    "greeting": {"zh": ("嗨，你好。",), "en": ("Hi, hello!",)},
    "thanks": {"zh": ("非常谢谢你。",), "en": ("Thanks very much.",)},
    "goodbye": {"zh": ("好，下次见。",), "en": ("Bye, see you later.",)},
    "self": {"zh": ("你到底是谁？",), "en": ("Please tell me who you are.",)},
    "ability": {"zh": ("你都会做什么？",), "en": ("What can you do for me?",)},
    "random": {"zh": (), "en": ()},
}
