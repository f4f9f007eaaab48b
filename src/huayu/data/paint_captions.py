"""What people may type to have one thing painted: a name, and often an art style and a colour, in either language."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from huayu.data import mini_vocabulary, world
from huayu.data.art_styles import DEFAULT_STYLE, STYLES
from huayu.data.paintings import WHITE, held_background, held_style

LANGUAGES = ("zh", "en")
# Other drawings of the concept than the one that is shown, or another colour of it.
NOT_SHOWN = frozenset({
    *("green apple", "青苹果", "spaghetti", "birthday cake", "生日蛋糕", "scooter", "sunglasses", "太阳镜", "礼帽"),
})  # fmt: skip

ASK = {
    "zh": ("", "", "", "", "画", "画", "请画", "帮我画", "给我画", "来", "我想要", "我要", "生成", "请帮我画", "想看"),
    "en": ("", "", "", "", "draw ", "paint ", "please draw ", "a picture of ", "a drawing of ", "an icon of ",
           "I want ", "show me ", "give me ", "an image of ", "make "),
}
NICE = {
    "zh": ("可爱的", "漂亮的", "小", "大", "好看的", "简单的", "很美的", "普通的", "好玩的"),
    "en": ("cute ", "beautiful ", "little ", "big ", "simple ", "nice ", "lovely ", "pretty ", "small "),
}
END = {
    "zh": ("", "", "", "", "", "", "。", "，谢谢", "，高清", "的图片", "的图标", "的画", "，好看一点"),
    "en": ("", "", "", "", "", "", ".", ", please", ", high quality", " icon", " picture", "!", ", centered"),
}


class Order(NamedTuple):
    """What a caption asks for; `style` or `background` None: it does not say."""

    concept: int
    style: int | None
    background: int | None

    @property
    def shown(self) -> tuple[int, int, int]:
        """Concept, style and background of the picture that is meant."""
        style = DEFAULT_STYLE if self.style is None else self.style
        return self.concept, style, WHITE if self.background is None else self.background

    @property
    def held(self) -> bool:
        """Whether it is never asked for in training."""
        concept, style, _ = self.shown
        return held_style(concept, style) or self.held_on_its_colour

    @property
    def held_on_its_colour(self) -> bool:
        """Whether the thing is never shown on this colour."""
        concept, _, background = self.shown
        return held_background(concept, background)


def draw_order(rng: np.random.Generator, *, imagined: bool = False) -> Order:
    """An order that training may show; ``imagined``: also those of whose style there are only imagined pictures."""
    while True:
        style = None if rng.random() < 0.35 else int(rng.integers(len(STYLES)))
        background = None if rng.random() < 0.35 else int(rng.integers(len(world.BACKGROUNDS)))
        order = Order(int(rng.integers(len(world.CONCEPTS))), style, background)
        if not (order.held_on_its_colour if imagined else order.held):
            return order


def names(concept: int, language: str) -> list[str]:
    """What a thing may be called in a caption; the usual name first."""
    entry = world.CONCEPTS[concept]
    spoken = (entry.zh, *entry.aliases_zh) if language == "zh" else (entry.en, *entry.aliases_en)
    return [name for name in spoken if name not in NOT_SHOWN]


def caption(rng: np.random.Generator, order: Order, language: str | None = None) -> str:
    """One way to say an order; in a random language when none is given."""
    language = language or _pick(rng, LANGUAGES)
    every = names(order.concept, language)
    name = every[0] if rng.random() < 0.6 else _pick(rng, every)
    text = (_chinese if language == "zh" else _english)(rng, order, name)
    return text[:1].upper() + text[1:] if language == "en" and rng.random() < 0.2 else text


def plain(order: Order, language: str, form: int = 0) -> str:
    """The order in usual words, as evaluations ask; `form` 0 is a list of words, 1 a phrase."""
    entry = world.CONCEPTS[order.concept]
    style, ground = order.style, order.background
    if language == "zh":
        s = "" if style is None else STYLES[style].zh[0] + "风格"
        b = "" if ground is None else world.BACKGROUNDS[ground][1] + "背景"
        if form == 0:
            return "，".join(part for part in (entry.zh, s, b) if part)
        return f"一{entry.measure}{s and s + '的'}{b and b + '上的'}{entry.zh}"
    s = "" if style is None else STYLES[style].en[0]
    b = "" if ground is None else world.BACKGROUNDS[ground][0]
    if form == 0:
        return ", ".join(part for part in (entry.en, s and s + " style", b and b + " background") if part)
    ask = f"{_article(s)} {s} style {entry.en}" if s else entry.phrase
    return ask + (f" on {_article(b)} {b} background" if b else "")


def disturbed(rng: np.random.Generator, text: str) -> str:
    """The caption with one word put in that says nothing about the picture, so that strange words do little harm."""
    places = [match.start() for match in re.finditer(" |$" if text.isascii() else ".|$", text)]
    place = places[int(rng.integers(len(places)))]
    if rng.random() < 0.5:
        word = mini_vocabulary.HAN[int(rng.integers(len(mini_vocabulary.HAN)))]
    else:
        words = mini_vocabulary.ENGLISH.split()
        word = " " + words[int(rng.integers(len(words)))]
    return text[:place] + word + text[place:]


def _chinese(rng: np.random.Generator, order: Order, name: str) -> str:
    before: list[tuple[str, str]] = []
    after: list[tuple[str, str]] = []
    if order.style is not None:
        style = _pick(rng, STYLES[order.style].zh) if rng.random() < 0.4 else STYLES[order.style].zh[0]
        style += _pick(rng, ("风格", "风格", "画风", "风"))
        (before if rng.random() < 0.5 else after).append((style + "的", "，" + style))
    if order.background is not None:
        colour = world.BACKGROUNDS[order.background][1]
        ground = _pick(rng, (colour + "背景", colour + "背景", colour + "的背景", colour[:-1] + "底", colour + "底"))
        if rng.random() < 0.55:
            before.append((ground + _pick(rng, ("上的", "的", "上的")), ""))
        else:
            after.append(("", _pick(rng, ("，", "，", "，背景是", "，在")) + ground))
            if "背景是" in after[-1][1]:
                after[-1] = ("", "，背景是" + colour)
            elif "在" in after[-1][1]:
                after[-1] = ("", "，在" + ground + "上")
    rng.shuffle(before)
    rng.shuffle(after)
    measure = world.CONCEPTS[order.concept].measure if rng.random() < 0.7 else "个"
    one = "" if rng.random() < 0.45 else "一" + measure
    nice = _pick(rng, NICE["zh"]) if rng.random() < 0.12 else ""
    text = one + "".join(part[0] for part in before) + nice + name + "".join(part[1] for part in after)
    if not one and before and rng.random() < 0.3:  # the words in a list
        text = "，".join([*(part[0].rstrip("上的") for part in before), name]) + "".join(p[1] for p in after)
    return _pick(rng, ASK["zh"]) + text + _pick(rng, END["zh"])


def _english(rng: np.random.Generator, order: Order, name: str) -> str:
    front, back = "", []
    if order.style is not None:
        style = _pick(rng, STYLES[order.style].en) if rng.random() < 0.4 else STYLES[order.style].en[0]
        way = rng.random()
        if way < 0.45:
            front = style + _pick(rng, (" style ", " ", " style "))
        else:
            back.append(_pick(rng, (f", {style} style", f" in {style} style", f", {style}", f" in the {style} style")))
    if order.background is not None:
        colour = world.BACKGROUNDS[order.background][0]
        ground = f"{_article(colour)} {colour} background"
        back.append(
            _pick(rng, (f" on {ground}", f" on {ground}", f", {colour} background", f" with {ground}", f" on {colour}",
                        f" against {ground}", f", on {colour} background"))
        )
    rng.shuffle(back)
    nice = _pick(rng, NICE["en"]) if rng.random() < 0.12 else ""
    thing = front + nice + name if rng.random() < 0.5 else nice + front + name
    bare = rng.random() < 0.45
    if not bare:
        plural = world.CONCEPTS[order.concept].phrase.startswith("some ")
        thing = f"{'some' if plural else _article(thing)} {thing}" if rng.random() < 0.9 else f"the {thing}"
    if bare and back and rng.random() < 0.25:  # the words in another order
        return ", ".join([*(part.strip(" ,") for part in back), thing])
    ask = "" if bare and rng.random() < 0.6 else _pick(rng, ASK["en"])
    return ask + thing + "".join(back) + _pick(rng, END["en"])


def _article(word: str) -> str:
    return "an" if word[:1].lower() in "aeiou" else "a"


def _pick(rng: np.random.Generator, choices: tuple[str, ...] | list[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def vocabulary() -> list[str]:
    """The lines of the vocabulary file, in order, without repeats. Source: spec viscpm §2.1."""
    base = (*mini_vocabulary.SPECIAL, *(chr(code) for code in range(33, 127)), "caption", "objects")
    english: dict[str, None] = {}
    chinese: dict[str, None] = {}
    phrases = {"en": [*ASK["en"], *NICE["en"], *END["en"]], "zh": [*ASK["zh"], *NICE["zh"], *END["zh"]]}
    for number, entry in enumerate(world.CONCEPTS):
        phrases["en"] += [entry.phrase, *names(number, "en")]
        phrases["zh"] += [entry.measure, *names(number, "zh")]
    for style in STYLES:
        phrases["en"] += style.en
        phrases["zh"] += style.zh
    for en, zh, _ in world.BACKGROUNDS:
        phrases["en"].append(en)
        phrases["zh"].append(zh)
    phrases["en"] += ["on in with against the an a some style background", mini_vocabulary.ENGLISH]
    phrases["zh"] += ["风格画风的背景底上在是一", mini_vocabulary.HAN]
    for word in re.findall(r"[A-Za-z0-9][A-Za-z0-9'-]*", " ".join(phrases["en"])):
        english.update(dict.fromkeys((word, word[:1].upper() + word[1:], f" {word}")))
    for char in "".join(phrases["zh"]):
        if ord(char) > 127:
            chinese[char] = None
    return list(dict.fromkeys((*base, *mini_vocabulary.MARKS, *english, *chinese)))
