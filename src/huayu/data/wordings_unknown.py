"""Questions that the small world cannot answer, the nouns it has no word for, and the answers' parts."""
from __future__ import annotations

# About the picture or about anything: the only right answer is "I do not know."
UNKNOWN: dict[str, tuple[str, ...]] = {
    "zh": ("谁画了这幅画？", "这张图是什么时候画的？", "今天天气怎么样？", "现在几点了？", "法国的首都是哪里？",
           "中国有多少人？", "一加一等于几？", "地球有多大？", "世界上最高的山是哪座？", "你几岁了？", "你住在哪里？",
           "明天会下雨吗？", "怎么做蛋糕？", "这幅画多少钱？", "作者是谁？", "图里的人叫什么名字？",
           "这是在哪里拍的？", "照片是谁拍的？", "它多少钱？", "它有多重？", "它有多大？", "它几岁了？",
           "它叫什么名字？", "它是什么颜色的？", "{thing}是什么颜色的？", "{thing}多少钱？", "{thing}有多重？",
           "{thing}叫什么名字？", "它高兴吗？", "它是谁的？", "给我讲个故事。", "写一首诗。", "唱一首歌。",
           "帮我写作业。", "圆周率是多少？", "谁是总统？", "什么是爱情？", "人为什么会做梦？", "光的速度是多少？",
           "月球离地球有多远？", "昨天谁赢了比赛？", "你喜欢什么？", "你昨天吃了什么？", "图里有{noun}吗？",
           "有{noun}吗？", "什么是{noun}？", "{noun}在哪里？", "你见过{noun}吗？"),
    "en": ("Who drew this picture?", "When was this picture made?", "How is the weather today?", "What time is it?",
           "What is the capital of France?", "How many people live in China?", "What is one plus one?",
           "How big is the earth?", "What is the highest mountain in the world?", "How old are you?",
           "Where do you live?", "Will it rain tomorrow?", "How do I make a cake?", "How much is this picture?",
           "Who is the author?", "What is the name of the person?", "Where was this taken?", "Who took the photo?",
           "How much does it cost?", "How heavy is it?", "How big is it?", "How old is it?", "What is its name?",
           "What color is it?", "What color is the {thing}?", "How much is the {thing}?", "How heavy is the {thing}?",
           "What is the name of the {thing}?", "Is it happy?", "Whose is it?", "Tell me a story.", "Write a poem.",
           "Sing a song.", "Do my homework.", "What is the value of pi?", "Who is the president?", "What is love?",
           "Why do people dream?", "How fast is light?", "How far away is Japan?", "Who won the game yesterday?",
           "What do you like?", "What did you eat yesterday?", "Is there a {noun} in the picture?",
           "Is there a {noun}?", "What is a {noun}?", "Where is the {noun}?", "Have you ever seen a {noun}?"),
}
UNKNOWN_HELD: dict[str, tuple[str, ...]] = {
    "zh": ("英国的首都是哪里？", "这幅画是谁的作品？", "二加三等于几？", "太阳有多远？", "世界上最长的河是哪条？",
           "你看到{noun}了吗？", "它有多高？", "谁是作者？"),
    "en": ("What is the capital of England?", "Who made this picture?", "What is two plus three?",
           "How far is the sun?", "What is the longest river in the world?", "Do you see a {noun}?",
           "How tall is it?", "Who is the artist?"),
}
NOUNS: dict[str, tuple[str, ...]] = {
    "zh": ("恐龙", "袋鼠", "斑马", "孔雀", "蜘蛛", "大白菜", "土豆", "洋葱", "大蒜", "米粉", "包子", "馒头", "豆腐",
           "牛奶", "沙发", "桌子", "冰箱", "洗衣机", "空调", "牙刷", "毛巾", "镜子", "叉子", "勺子", "刀", "医生",
           "老师", "警察", "学生", "国王", "山", "河", "海", "桥", "学校", "医院", "坦克", "潜艇", "钻石", "手表"),
    "en": ("dinosaur", "rhino", "zebra", "goat", "lizard", "cabbage", "potato", "onion", "spoon", "fork",
           "knife", "table", "sofa", "fridge", "mirror", "towel", "toothbrush", "doctor", "teacher", "king",
           "mountain", "river", "bridge", "school", "hospital", "tank", "submarine", "diamond", "watch", "necklace",
           "shark", "seal", "wolf", "deer", "kangaroo", "spider", "candle", "bottle", "bag", "pillow"),
}
NOUNS_HELD: dict[str, tuple[str, ...]] = {
    "zh": ("狼", "鲨鱼", "萝卜", "篮子", "蜡烛", "瓶子", "犀牛", "项链"),
    "en": ("lobster", "peacock", "coconut", "basket", "helmet", "sword", "carpet", "wheel"),
}

# Words for questions that mean nothing.
CHAFF: dict[str, tuple[str, ...]] = {
    "zh": ("的", "了", "吗", "是", "谁", "颜色", "多少", "背景", "吃", "图片", "不", "左边", "我们", "因为", "所以",
           "跑", "蓝色", "三", "很", "今天", "房间", "快乐", "啊", "和", "在", "说", "走", "天空", "怎么", "高"),
    "en": ("the", "of", "blue", "run", "very", "because", "who", "color", "how", "picture", "not", "left", "we", "so",
           "eat", "three", "today", "room", "happy", "and", "in", "say", "walk", "sky", "many", "tall", "is", "yes",
           "under", "with"),
}
