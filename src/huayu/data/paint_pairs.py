"""Prompts that ask for two things, side by side or one above the other, and the prompt of each."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from huayu.data.world import CONCEPTS
from huayu.runtime.language import language_of

LONGEST = 16  # characters of a thing in Chinese with all that is said of it
MOST = 200  # characters of a prompt that asks for two things; patterns take long on long texts

_OPPOSITE = {"左": "右", "右": "左", "上": "下", "下": "上"} | {
    "left": "right", "right": "left", "top": "bottom", "bottom": "top",
}  # fmt: skip
_LATER = {"右", "下", "right", "bottom"}
_UPRIGHT = {"上", "下", "top", "bottom"}

_ASK = re.compile(
    r"(?:请|帮我|给我)*(?:画|生成|来)?一?[幅张个](?:画|图片?)[，,：:]?里?|(?:请|帮我|给我)*(?:画|生成)[，,：:]?|"
    r"(?:please )?(?:draw|paint|make|show me|give me|i want)?(?: ?(?:a|an|the) (?:picture|image|drawing) (?:of|with))?"
    r"[:,]? ",
    re.IGNORECASE,
)
_SIDE_ZH, _THING_ZH = "([左右上下])[边侧面方]", "[^，,。；;、！!]+"
_IS_ZH, _STOP_ZH = "(?:是|有|画着?|放着?|：|:)*", r"(?:[，,、；;]|和|而|还有)?\s*"
_HEAD_ZH = "(?P<head>.*(?:背景|底|风格|画风)(?:上的|的|上|，|,|：)+)?"
_SIDE_EN = "(?:on|at|to) the (left|right|top|bottom)(?: side)?"
_HEAD_EN = "(?:(?P<head>.*(?:background|style))[,:]? )?"
_STOP_EN, _THING_EN = "(?:[,;] | )(?:and )?", "[^,;.!]+?"
_REST_EN = "(?P<rest>(?:[,;.!].*| (?:on|in|with|against) .*)?)"
# Of both languages: sides first, things first, no sides named.
_ORDERS = {
    "zh": (
        f"{_HEAD_ZH}{_SIDE_ZH}{_IS_ZH}(?P<one>{_THING_ZH}?){_STOP_ZH}{_SIDE_ZH}{_IS_ZH}(?P<two>{_THING_ZH})"
        "(?P<rest>.*)",
        f"{_HEAD_ZH}(?P<one>{_THING_ZH}?)在{_SIDE_ZH}{_STOP_ZH}(?P<two>{_THING_ZH}?)在{_SIDE_ZH}(?P<rest>.*)",
        f"{_HEAD_ZH}(?P<one>{_THING_ZH})(?:和|与|跟)(?P<two>{_THING_ZH})(?P<rest>.*)",
    ),
    "en": (
        f"{_HEAD_EN}{_SIDE_EN}[:,]? (?P<one>{_THING_EN}){_STOP_EN}{_SIDE_EN}[:,]? (?P<two>{_THING_EN}){_REST_EN}",
        f"{_HEAD_EN}(?P<one>{_THING_EN}) {_SIDE_EN}{_STOP_EN}(?P<two>{_THING_EN}) {_SIDE_EN}(?P<rest>.*)",
        f"{_HEAD_EN}(?P<one>{_THING_EN}) (?:and|next to|beside) (?P<two>{_THING_EN}){_REST_EN}",
    ),
}


class Pair(NamedTuple):
    """Prompts of two things, and whether the ``first`` stands above the ``second`` rather than left of it."""

    first: str
    second: str
    upright: bool


def parse(prompt: str) -> Pair | None:
    """左边一只狗，右边一只猫，蓝色背景 → 一只狗，蓝色背景 and 一只猫，蓝色背景; None where it does not ask for two.

    Sides are left and right, or top and bottom; without any, "a dog and a cat" needs two names of the small world.
    """
    text = prompt.strip()
    if len(text) > MOST:
        return None
    language = language_of(text)
    asked = _ASK.match(text)
    text = text[asked.end() :] if asked else text
    for number, order in enumerate(_ORDERS[language]):
        match = re.fullmatch(order, text, re.IGNORECASE | re.DOTALL)
        if match is None:
            continue
        one, two = match["one"].strip(), match["two"].strip()
        if number < 2:
            sides = [group.lower() for group in match.groups() if group and group.lower() in _OPPOSITE]
        else:
            sides = ["left", "right"] if _names_one(one, language) and _names_one(two, language) else []
        if len(sides) == 2 and _OPPOSITE[sides[0]] == sides[1]:
            return _pair(one, two, sides[0], match["head"] or "", match["rest"])
    return None


def _pair(one: str, two: str, side: str, head: str, rest: str) -> Pair:
    """The prompts of both, each with the style or ground that was named for both, before them or after."""
    if head and not head.endswith("的"):
        head = head.strip(" ，,：:")
        rest, head = ("，" if language_of(head) == "zh" else ", ") + head + rest, ""
    first, second = (head + text + rest for text in (one, two))
    return Pair(*((second, first) if side in _LATER else (first, second)), upright=side in _UPRIGHT)


def _names_one(words: str, language: str) -> bool:
    """Whether the words end in the name of one thing of the world, and speak of no other before."""
    if re.search(r"[和与跟、]|\band\b", words):
        return False
    names = _names(language)
    if language == "zh":
        return any(words.endswith(name) for name in names) and len(words) <= LONGEST
    tail = words.lower().split()
    return any(" ".join(tail[-n:]) in names for n in (1, 2, 3))


@cache
def _names(language: str) -> frozenset[str]:
    if language == "zh":
        return frozenset(name for concept in CONCEPTS for name in (concept.zh, *concept.aliases_zh))
    return frozenset(name.lower() for concept in CONCEPTS for name in (concept.en, *concept.aliases_en))
