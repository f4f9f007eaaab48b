"""What the page says, in English and Chinese."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Literal

from huayu.errors import HuayuError

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
Words = Callable[..., str]

_WORDS: dict[str, tuple[str, str]] = {
    "title": ("huayu · talk about pictures, paint them", "画语 · 看图说话，以言作画"),
    "tagline": ("Talk about pictures, and paint them.", "看图说话，以言作画。"),
    "talk": ("Talk", "看图"),
    "paint": ("Paint", "作画"),
    "history": ("History", "历史"),
    "close": ("Close", "关闭"),
    "other language": ("中文", "English"),
    "model": ("Model", "模型"),
    # Talk
    "empty talk": ("## Show me a picture\nand ask what you like about it.", "## 给我看一张图片\n想问什么，尽管问。"),
    "ask": (
        "Ask about a picture — add one with the clip, paste it, or drop it here",
        "问问图片：点回形针添加，也可以粘贴或拖到这里",
    ),
    "question": ("Your question", "你的问题"),
    "conversation": ("Conversation", "对话"),
    "new talk": ("New conversation", "新对话"),
    "camera": ("Camera", "拍照"),
    "close camera": ("Close the camera", "关闭相机"),
    "options": ("Options", "选项"),
    "answer language": ("Answer in", "回答语言"),
    "auto": ("the question's language", "与问题相同"),
    "zh": ("Chinese", "中文"),
    "en": ("English", "英文"),
    "longest": ("Longest answer, in tokens", "回答最多多少个词元"),
    "model's own": ("as the model likes", "模型默认"),
    "ocr": ("Read the words in the picture", "识别图中的文字"),
    "second_look": ("Look a second time", "再看一眼"),
    "tiles": ("Look closely, part by part", "分块细看"),
    "reading": ("Reading the picture …", "正在看图……"),
    "waiting": ("Getting ready; the first answer takes a little longer …", "正在准备，第一次回答会稍慢一些……"),
    "stopped": ("Stopped. What came so far is kept.", "已停止，生成的内容已保留。"),
    "cut": (
        "The answer was cut at its length limit (see Options).",
        "回答到了长度上限，被截断了（可在“选项”中调整）。",
    ),
    "dropped": (
        "The {} oldest turn(s) no longer fit into the model and were left out.",
        "对话太长，模型看不到最早的 {} 轮了。",
    ),
    "text read": ("Text in the picture: {}", "图中文字：{}"),
    "not there": ("Not there on a second look: {}", "再看一眼，图里没有：{}"),
    "comma": (", ", "、"),
    "wrong language": ("The model did not answer in the language asked for.", "模型没有用所选的语言回答。"),
    "too many pictures": ("That is {} pictures; at most {} at a time.", "共 {} 张图片；一次最多 {} 张。"),
    "what": ("What is in the picture?", "图里有什么？"),
    "this": ("What is this?", "这是什么？"),
    "how many": ("How many things are there?", "一共有几样东西？"),
    # Paint
    "prompt": ("What shall I paint?", "想画什么？"),
    "prompt hint": ("a red apple", "一个红苹果"),
    "style": ("Style", "风格"),
    "no style": ("any", "不限"),
    "go": ("Paint", "开始画"),
    "stop": ("Stop", "停止"),
    "pictures": ("Pictures", "张数"),
    "seed": ("Seed", "种子"),
    "a new one": ("a new one each time", "每次随机"),
    "size": ("Size", "大小"),
    "steps": ("Steps", "步数"),
    "guidance": ("Guidance", "引导强度"),
    "negative": ("What should not be seen", "不希望出现的内容"),
    "candidates": ("Candidates for each picture; the best is shown", "每张的候选数，选出最好的一张"),
    "no ranker": (
        "No ranking model is set up (--ranker), so all candidates are shown, without scores.",
        "没有设置排序模型（--ranker），所以列出全部候选，不打分。",
    ),
    "ranker's language": (
        "The ranking model does not read this language, so all candidates are shown, without scores.",
        "排序模型不懂这种语言，所以列出全部候选，不打分。",
    ),
    "check": ("Let the chat model look, and paint again what does not fit", "让看图模型检查，不符合就重画"),
    "repaints": ("At most so many more tries", "最多再试几次"),
    "empty paint": (
        "<h2>Nothing painted yet</h2><p>Say what you would like to see — the first picture takes a few seconds.</p>",
        "<h2>还没有画</h2><p>说说想看什么——第一张要等几秒钟。</p>",
    ),
    "painted": ("Paintings", "画作"),
    "painting": ("Painting …", "正在画……"),
    "painting of": ("Painting: step {} of {}", "正在画：第 {} 步，共 {} 步"),
    "looking": ("The chat model is looking …", "看图模型正在检查……"),
    "again": ("Picture {} did not fit: painting it again …", "第 {} 张不符合，正在重画……"),
    "done": ("{} painted in {} s.", "画了 {} 张，用时 {} 秒。"),
    "to chat": ("Talk about this picture", "和它聊聊"),
    "keep seed": ("Keep this seed", "固定这个种子"),
    "try": ("Try", "试试"),
    "fits": ("fits", "符合"),
    "unsure": ("unsure", "不确定"),
    "no fit": ("does not fit", "不符合"),
    "score": ("score", "得分"),
    "best of": ("best of", "候选"),
    "not painted": ("This was not painted: {}", "没有画：{}"),
    "safety": ("Safety", "安全"),
    # History
    "empty history": ("What you talk about and paint is kept here.", "聊过的、画过的都在这里。"),
    "no history": ("Nothing is kept: the history is turned off.", "历史记录已关闭，不会保存任何内容。"),
    "export": ("Export", "导出"),
    "export all": ("Export all", "全部导出"),
    "delete": ("Delete", "删除"),
    "delete all": ("Delete all", "全部删除"),
    "really": ("Delete everything in the history? This cannot be undone.", "删除全部历史？此操作无法撤销。"),
    "history broken": ("The history could not be read or written: {}", "无法读写历史记录：{}"),
    "gone": ("It is no longer in the history.", "历史中已没有这一条。"),
    "choose": ("Choose something in the list first.", "请先在列表中选择。"),
    "picture": ("(a picture)", "（图片）"),
    # Anything else
    "wrong": (
        "Something went wrong here; it is not your fault. Please try again — the server's log has the details.",
        "这里出了点问题，不是你的错。请再试一次，详情见服务日志。",
    ),
}


def words(language: Language) -> Words:
    """``say(key, *values)``: the sentence in that language, values filled in."""
    column = LANGUAGES.index(language)
    return lambda key, *values: _WORDS[key][column].format(*values)


def sentence(error: HuayuError, language: Language) -> str:
    """What an error says."""
    return error.zh if language == "zh" else error.en


def notice(text: str, *, bad: bool = False) -> str:
    """HTML of a line that screen readers announce; nothing for no text."""
    if not text:
        return ""
    return f'<p class="notice {"bad" if bad else ""}" role="{"alert" if bad else "status"}">{escape(text)}</p>'
