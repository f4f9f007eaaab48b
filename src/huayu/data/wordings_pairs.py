"""The ways to ask about two pictures, as :mod:`huayu.data.wordings`; {nth} is "first" or "second"."""

from __future__ import annotations

from huayu.data.wordings import Table

TRAIN: Table = {
    "pair-which": {
        "zh": ("哪张图里有{thing}？", "哪一张图里有{thing}？", "哪张图片里有{thing}？", "{thing}在哪张图里？",
               "{thing}在哪一张图里？", "哪张图上有{thing}？", "哪幅图里有{thing}？", "你在哪张图里看到{thing}？",
               "{thing}在哪张图片里？", "请问哪张图里有{thing}？"),
        "en": ("Which picture has {a_thing}?", "Which picture shows {a_thing}?", "Which image has {a_thing}?",
               "In which picture do you see {a_thing}?", "In which picture is there {a_thing}?",
               "Which image shows {a_thing}?", "Which of the pictures has {a_thing}?",
               "Which of the two pictures has {a_thing}?", "Which one has {a_thing}?",
               "In which image do you see {a_thing}?"),
    },
    "pair-things": {
        "zh": ("两张图里有什么？", "图里有什么？", "两张图有什么不同？", "比较一下两张图。", "两张图里都有什么？",
               "请比较这两张图。", "这两张图有什么区别？", "两张图有什么区别？", "这两张图里有什么？",
               "两张图片里有什么？", "这两张图有什么不同？", "描述一下这两张图。"),
        "en": ("What is in the pictures?", "What is in the two pictures?", "Compare the pictures.",
               "What is different?", "What is the difference between the pictures?", "Compare the two pictures.",
               "How do the pictures differ?", "What do the pictures show?", "Describe the pictures.",
               "What do you see in the pictures?", "What is different between the two pictures?",
               "What is in these pictures?"),
    },
    "pair-ground": {
        "zh": ("两张图的背景颜色一样吗？", "两张图的背景一样吗？", "它们的背景颜色一样吗？", "背景颜色一样吗？",
               "这两张图的背景一样吗？", "两张图的底色一样吗？", "两张图背景的颜色相同吗？", "它们的背景一样吗？",
               "两张图片的背景颜色一样吗？", "背景一样吗？"),
        "en": ("Is the background the same?", "Do both pictures have the same background?",
               "Are the backgrounds the same?", "Do the pictures have the same background color?",
               "Is the background color the same?", "Are the background colors the same?",
               "Do they have the same background?", "Do both have the same background color?",
               "Is the background of both pictures the same?", "Do the two pictures have the same background?"),
    },
    "pair-more": {
        "zh": ("哪张图里的东西更多？", "哪张图里的东西多？", "哪一张图里的东西更多？", "哪张图的东西更多？",
               "哪张图片里的东西更多？", "哪张图里东西更多？", "两张图里哪张的东西更多？", "哪幅图里的东西更多？",
               "哪张图里的物体更多？", "请问哪张图里的东西更多？"),
        "en": ("Which picture has more things?", "Which picture shows more things?", "Which image has more things?",
               "Which one has more things?", "Which picture has more objects?", "Where are there more things?",
               "In which picture are there more things?", "Which of the pictures has more things?",
               "In which picture do you see more things?", "Which of the two has more things?"),
    },
    "pair-one": {
        "zh": ("{nth}图里有什么？", "{nth}图是什么？", "{nth}图片里有什么？", "{nth}图里都有什么？", "{nth}是什么？",
               "{nth}图画的是什么？", "{nth}里有什么？", "{nth}图上有什么？", "{nth}图中有什么？",
               "在{nth}图里你看到了什么？"),
        "en": ("What is in the {nth} picture?", "What is in the {nth} image?", "What does the {nth} picture show?",
               "What do you see in the {nth} picture?", "What is the {nth} picture?", "What is in the {nth} one?",
               "What can you see in the {nth} picture?", "List the things in the {nth} picture.",
               "What things are in the {nth} picture?", "What is shown in the {nth} picture?"),
    },
    "pair-one-ground": {
        "zh": ("{nth}图的背景是什么颜色？", "{nth}图的背景是什么颜色的？", "{nth}图的底色是什么？",
               "{nth}的背景是什么颜色？", "{nth}图片的背景是什么颜色？", "{nth}图背景是什么颜色？",
               "{nth}图的背景颜色是什么？", "{nth}图的底色是什么颜色？", "{nth}的底色是什么？",
               "请问{nth}图的背景是什么颜色？"),
        "en": ("What color is the background of the {nth} picture?", "What is the background of the {nth} picture?",
               "What is the background color of the {nth} picture?", "Which color is the {nth} background?",
               "What colour is the background of the {nth} picture?", "What color is the {nth} background?",
               "What is the background color of the {nth} image?", "What is the {nth} background color?",
               "What color is the background of the {nth} image?", "Which color does the {nth} picture have?"),
    },
}  # fmt: skip

HELD: Table = {
    "pair-which": {"zh": ("哪张图片上有{thing}？", "{thing}在哪幅图里？"),
                   "en": ("Which of these pictures shows {a_thing}?", "Which of the images has {a_thing}?")},
    "pair-things": {"zh": ("请说说这两张图有什么不同。", "两张图片有什么区别？"),
                    "en": ("Tell me what is different.", "What do these two pictures show?")},
    "pair-ground": {"zh": ("这两张图的背景颜色相同吗？", "两张图片的底色一样吗？"),
                    "en": ("Do both images have the same background?", "Is the color of the background the same?")},
    "pair-more": {"zh": ("哪一张图片里的东西更多？", "哪张图上的东西更多？"),
                  "en": ("Which image shows more things?", "Which of the images has more things?")},
    "pair-one": {"zh": ("{nth}图片上有什么？", "请问{nth}图里有什么？"),
                 "en": ("What do you see in the {nth} image?", "Tell me what is in the {nth} picture.")},
    "pair-one-ground": {"zh": ("{nth}图片的底色是什么？", "请问{nth}的背景是什么颜色？"),
                        "en": ("Tell me the background color of the {nth} picture.",
                               "Which color is the background of the {nth} picture?")},
}  # fmt: skip
