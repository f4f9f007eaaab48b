"""Which things a text says there are: names of the small world, with their aliases, and whatever it lists. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from huayu.data.world import CATEGORIES, CONCEPTS, GENERIC, Concept
from huayu.runtime.language import language_of

_MEASURES = "个只条张朵棵辆头匹本把座架艘杯颗位名群些块片根串份枚道团支台部面顶副件扇栋幅盘瓶碗双对列"
_NUMBER_EN = "some|two|three|four|five|six|seven|eight|nine|ten|several|many"
# Words that end the name of a thing, and words that are about the picture or stand for any thing.
_END_EN = (
    r"in|on|at|of|with|and|or|is|are|was|has|have|that|which|who|near|under|behind|beside|next|to|by|from|over|as|an?|"
    rf"the|{_NUMBER_EN}|sits?|stands?|lies|lays|runs?|rides?|walks?|eats?|holds?|plays?|looks?|flies|wears?|\w+ing"
)
_NOT_EN = re.compile(
    r"\b(picture|image|photo|photograph|scene|view|background|lot|variety|couple|group|kind|type|model|things?|objects?)$"
)
_NOT_ZH = re.compile("图|图片|照片|画面|背景|东西|物体|事物|地方|不认识|颜色|种")
_MARK_ZH = "，。、；：！？（）,.;:!?()\\s"
_END_ZH = f"{_MARK_ZH}和与及跟在是有正被着里上下吗呢"
_POSE_ZH = "[坐站躺骑拿][在着]"
_STRANGER = re.compile("一样我不认识的东西|某样东西|something(?: I do not know)?", re.I)

_NEGATED = {
    "zh": re.compile("没|不是|不能|不在|无|不会"),
    "en": re.compile(r"\b(no|not(?! know)|none|cannot)\b|n't", re.I),
}
_CLAUSE = {"zh": re.compile(r"[^。！？；;!?\n，,]+"), "en": re.compile(r"(?:(?!, but\b)[^.!?;\n])+")}
_BULLET = re.compile(r"^[ \t]*(?:[-*•]|\d+[.)、])[ \t]*(?P<item>[^\n.。,，:：]{1,30})[.。]?$", re.M)


@dataclass(frozen=True)
class Thing:
    """Something that ``text[start:end]`` names. ``words`` have the number or article; ``name`` does not.

    ``concept``: the thing of the small world that it is, or None.
    """

    words: str
    name: str
    start: int
    end: int
    concept: Concept | None = None

    @property
    def key(self) -> str:
        """The same for all names of one thing, in both languages where the world knows it."""
        return self.concept.key if self.concept else self.name.lower()


def things_in(text: str, *, strangers: bool = False) -> list[Thing]:
    """What the text says there is, in its order; what it denies is not among it.

    ``strangers``: also what it has no name for ("something I do not know").
    """
    language = language_of(text)
    found: list[Thing] = []
    for clause in _CLAUSE[language].finditer(text):
        if not _NEGATED[language].search(clause[0]):
            found += _named(text, clause.start(), clause.end(), language)
    taken = [(thing.start, thing.end) for thing in found]
    for item in _BULLET.finditer(text):
        if not any(start < item.end("item") and item.start("item") < end for start, end in taken):
            found.append(_thing(item["item"].strip(), item["item"].strip(), item.start("item"), language))
    found = [thing for thing in found if _is_thing(thing, language)]
    if strangers:
        found += [Thing(match[0], "", *match.span()) for match in _STRANGER.finditer(text)]
    return sorted(found, key=lambda thing: thing.start)


def _named(text: str, start: int, end: int, language: str) -> Iterator[Thing]:
    for match in _pattern(language).finditer(text, start, end):
        words = match[0].rstrip()
        name = match["name"] or match["bare"]
        yield _thing(words, name.rstrip(), match.start(), language)


def _thing(words: str, name: str, start: int, language: str) -> Thing:
    return Thing(words, name, start, start + len(words), _concept(name, language))


def _is_thing(thing: Thing, language: str) -> bool:
    if thing.concept is not None:
        return True
    kinds = {kind[language == "zh"] for kind in CATEGORIES.values()}
    return (_NOT_ZH if language == "zh" else _NOT_EN).search(thing.name.lower()) is None and not (
        thing.name in kinds or thing.words.lower() in kinds
    )


def _concept(name: str, language: str) -> Concept | None:
    """The concept whose name ends these words: 黑色的狗, big dogs."""
    names = _names(language)
    words = name if language == "zh" else re.sub(r"^(the|its|his|her) ", "", name.lower())
    for begin in range(len(words)):
        if language == "en" and begin and words[begin - 1] != " ":
            continue
        for form in (words[begin:], words[begin:].removesuffix("s"), words[begin:].removesuffix("es")):
            if form in names:
                return names[form]
    return None


@cache
def _names(language: str) -> dict[str, Concept]:
    if language == "zh":
        return {name: concept for concept in CONCEPTS for name in (*concept.aliases_zh, concept.zh)}
    return {name.lower(): concept for concept in CONCEPTS for name in (*concept.aliases_en, concept.en)}


@cache
def _pattern(language: str) -> re.Pattern[str]:
    """``name``: after a number or article, any name; ``bare``: without one, a name of the world."""
    ordered = sorted(map(re.escape, _names(language)), key=len, reverse=True)
    if language == "en":
        word = rf"(?!(?:{_END_EN})\b)[A-Za-z][\w'-]*"
        known = "|".join(ordered)
        name = rf"(?P<name>{word}(?: {word}){{0,3}})"
        return re.compile(rf"\b(?:an?|{_NUMBER_EN}) {name}|\b(?P<bare>(?:the )?(?:{known})(?:e?s)?)\b", re.I)
    # A name of one character is in many other words: it counts between marks of a list only, as do the vague ones.
    long = "|".join(name for name in ordered if len(name) > 1 and name not in GENERIC)
    short = "|".join(name for name in ordered if len(name) == 1 or name in GENERIC)
    number = f"(?:[一两二三四五六七八九十几数]|许多|很多)[{_MEASURES}]"
    described = f"(?:[^{_MARK_ZH}在是有和与跟]{{1,12}}的)?"
    other = f"{described}(?:(?!{_POSE_ZH})[^{_END_ZH}的]){{1,10}}"
    name = f"(?P<name>(?:{'|'.join(ordered)})(?=[{_END_ZH}]|$)|{other})"
    listed = f"(?<=[有是、和与及])(?:{short})(?=[{_END_ZH}]|$)"
    return re.compile(f"{number}{name}|(?P<bare>{long}|{listed})")


def question_whether(thing: Thing, language: str, *, small: bool) -> str:
    """ "Is there a dog in the picture?"; for a ``small`` model by the name it was taught."""
    concept = thing.concept
    if language == "zh":
        return f"图里有{concept.zh if concept and small else thing.name}吗？"
    if concept and small:
        uncounted = concept.phrase.startswith("some ")
        called = f"any {concept.en}" if uncounted else concept.phrase
        plural = concept.plural
    else:
        called = re.sub("^(the|its|his|her) ", "", thing.words, flags=re.I)
        called = re.sub("^some ", "any ", called[:1].lower() + called[1:], flags=re.I)
        plural = called.endswith("s") and not re.match("an? ", called)
        if not plural and " " not in called:
            called = f"{'an' if called[:1] in 'aeiou' else 'a'} {called}"
    return f"{'Are' if plural else 'Is'} there {called} in the picture?"


def as_listed(thing: Thing, language: str) -> str:
    """ "a dog": as an item of a list, with an article where the text had none or spoke of "the"."""
    if thing.concept is None or (thing.words != thing.name and language_of(thing.words) == language):
        return thing.words
    return thing.concept.phrase if language == "en" else f"一{thing.concept.measure}{thing.concept.zh}"
