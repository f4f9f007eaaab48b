"""The one right way to say each true thing about a scene, in Chinese and in English."""

from __future__ import annotations

from collections.abc import Sequence

from huayu.data import world
from huayu.data.art_styles import STYLES
from huayu.data.uses import FESTIVALS, USES
from huayu.data.world import CATEGORIES, CONCEPTS, OUTSIDE

NUMBERS = {"zh": ("零", "一", "两", "三", "四"), "en": ("no", "one", "two", "three", "four")}
SIDES = {  # side: (answer zh, other zh, English)
    "left": ("左边", "左侧", "on the left"),
    "right": ("右边", "右侧", "on the right"),
    "top": ("上面", "上方", "at the top"),
    "bottom": ("下面", "下方", "at the bottom"),
}
REGIONS = {  # row -> column -> (zh, en)
    0: (("左上方", "at the top left"), ("上方", "at the top"), ("右上方", "at the top right")),
    1: (("左边", "on the left"), ("中间", "in the middle"), ("右边", "on the right")),
    2: (("左下方", "at the bottom left"), ("下方", "at the bottom"), ("右下方", "at the bottom right")),
}
FIXED = {
    "greeting": ("你好！我是画语。", "Hello! I am huayu."),
    "thanks": ("不客气。", "You are welcome."),
    "goodbye": ("再见！", "Goodbye!"),
    "self": ("我是画语，一个会看图说话的小模型。", "I am huayu, a small model that talks about pictures."),
    "ability": ("我可以看图说话，回答关于图片的问题。", "I can look at a picture and answer questions about it."),
    "unknown": ("我不知道。", "I do not know."),
    "unknown-thing": ("我不知道这是什么。", "I do not know what this is."),
    "no-picture": ("我没有看到图片。", "I do not see a picture."),
}


def fixed(skill: str, language: str) -> str:
    """An answer that does not depend on the scene."""
    return FIXED[skill][language == "en"]


def noun(concept: int, language: str) -> str:
    """One such thing: "一只狗", "a dog"; for a stranger "something I do not know"."""
    if concept == OUTSIDE:
        return "something I do not know" if language == "en" else "一样我不认识的东西"
    entry = CONCEPTS[concept]
    return entry.phrase if language == "en" else f"一{entry.measure}{entry.zh}"


def joined(concepts: Sequence[int], language: str) -> str:
    """ "a dog, a cat and a car"."""
    nouns = [noun(concept, language) for concept in concepts]
    if len(nouns) == 1:
        return nouns[0]
    if language == "en":
        return ", ".join(nouns[:-1]) + " and " + nouns[-1]
    return "、".join(nouns[:-1]) + "和" + nouns[-1]


def plural(concept: int) -> bool:
    """Whether English says "there are some"."""
    return concept != OUTSIDE and CONCEPTS[concept].plural


def there_is(concept: int) -> str:
    """ "There is" or "There are"."""
    return "There are" if plural(concept) else "There is"


def name(concepts: Sequence[int], language: str) -> str:
    """What the picture shows: one thing is named, several are listed."""
    if len(concepts) > 1:
        return everything(concepts, language)
    if concepts[0] == OUTSIDE:
        return fixed("unknown-thing", language)
    if language == "en":
        return f"{'These are' if plural(concepts[0]) else 'This is'} {noun(concepts[0], 'en')}."
    return f"这是{noun(concepts[0], 'zh')}。"


def everything(concepts: Sequence[int], language: str) -> str:
    """All things in the scene's order."""
    things = joined(concepts, language)
    return f"{there_is(concepts[0])} {things} in the picture." if language == "en" else f"图里有{things}。"


def background(colour: int, language: str) -> str:
    """The colour of the ground."""
    en, zh, _ = world.BACKGROUNDS[colour]
    return f"The background is {en}." if language == "en" else f"背景是{zh}的。"


def count(number: int, language: str) -> str:
    """How many things."""
    word = NUMBERS[language][number]
    if language == "en":
        return "There is one thing." if number == 1 else f"There are {word} things."
    return f"图里有{word}样东西。"


def place(side: str, concept: int, language: str) -> str:
    """What is on a side."""
    if language == "en":
        return f"{there_is(concept)} {noun(concept, 'en')} {SIDES[side][2]}."
    return f"{SIDES[side][0]}是{noun(concept, 'zh')}。"


def where(at: tuple[int, int], concept: int, language: str) -> str:
    """In which of nine parts of the picture it is; `at` is (column, row)."""
    zh, en = REGIONS[at[1]][at[0]]
    if language == "en":
        return f"{'They are' if plural(concept) else 'It is'} {en} of the picture."
    return f"它在图的{zh}。"


def yesno(concept: int, present: bool, language: str) -> str:
    """Whether there is one."""
    entry = CONCEPTS[concept]
    if language == "en":
        verb = "there are" if entry.plural else "there is"
        return f"Yes, {verb} {entry.phrase}." if present else f"No, {verb} no {entry.en}."
    return f"有，图里有{noun(concept, 'zh')}。" if present else f"没有，图里没有{entry.zh}。"


def category(concept: int, language: str) -> str:
    """What kind of thing it is."""
    if concept == OUTSIDE:
        return fixed("unknown", language)
    en, zh = CATEGORIES[CONCEPTS[concept].category]
    return f"It is {en}." if language == "en" else f"它是一种{zh}。"


def edible(concept: int, language: str) -> str:
    """Whether it can be eaten."""
    if concept == OUTSIDE:
        return fixed("unknown", language)
    if CONCEPTS[concept].edible:
        return "Yes, it can be eaten." if language == "en" else "能，它可以吃。"
    return "No, it cannot be eaten." if language == "en" else "不能，它不可以吃。"


def use(concept: int, language: str) -> str:
    """What it is used for, if there is one use to tell."""
    if concept == OUTSIDE:
        return fixed("unknown", language)
    if not useful(concept):
        return "It has no one use." if language == "en" else "它没有特定的用途。"
    en, zh = USES.get(CONCEPTS[concept].key, ("eating", "吃"))
    return f"It is used for {en}." if language == "en" else f"它可以用来{zh}。"


def useful(concept: int) -> bool:
    """Whether it has one use that nobody would quarrel with: as a tool, or as food."""
    return CONCEPTS[concept].key in USES or bool(CONCEPTS[concept].edible)


def festival(concept: int, language: str) -> str:
    """Which festival it belongs to, if any."""
    if concept == OUTSIDE:
        return fixed("unknown", language)
    en, zh = FESTIVALS.get(CONCEPTS[concept].key, ("no festival", ""))
    if language == "en":
        return f"It belongs to {en}."
    return f"它和{zh}有关。" if zh else "它和节日没有关系。"


def style(number: int, language: str) -> str:
    """The art style of the picture."""
    art = STYLES[number]
    return f"The picture is in {art.en[0]} style." if language == "en" else f"这是{art.zh[0]}画风。"


def describe(colour: int, concepts: Sequence[int], language: str) -> str:
    """The ground and everything on it."""
    en, zh, _ = world.BACKGROUNDS[colour]
    things = joined(concepts, language)
    if language == "en":
        return f"{there_is(concepts[0])} {things} on {'an' if en[0] in 'aeiou' else 'a'} {en} background."
    return f"{zh}的背景上有{things}。"


def which_picture(concept: int, first: bool, second: bool, language: str) -> str:
    """Which of two pictures has one."""
    thing = CONCEPTS[concept]
    if language == "en":
        if first and second:
            return f"Both pictures have {thing.phrase}."
        if not first and not second:
            return f"Neither picture has {thing.phrase.replace('some ', 'any ')}."
        return f"The {'first' if first else 'second'} picture has {thing.phrase}."
    if first == second:
        return f"两张图里都{'有' if first else '没有'}{thing.zh}。"
    return f"第{'一' if first else '二'}张图里有{thing.zh}。"


def same_ground(first: int, second: int, language: str) -> str:
    """Whether two backgrounds have one colour."""
    (one_en, one_zh, _), (other_en, other_zh, _) = world.BACKGROUNDS[first], world.BACKGROUNDS[second]
    if language == "en":
        return f"Yes, both are {one_en}." if first == second else f"No, one is {one_en} and the other is {other_en}."
    return f"一样，都是{one_zh}的。" if first == second else f"不一样，一张是{one_zh}的，另一张是{other_zh}的。"


def both_things(first: Sequence[int], second: Sequence[int], language: str) -> str:
    """What two pictures show."""
    one, other = joined(first, language), joined(second, language)
    if language == "en":
        return f"The first picture shows {one}, and the second shows {other}."
    return f"第一张图里有{one}，第二张图里有{other}。"


def more_things(first: int, second: int, language: str) -> str:
    """Which of two pictures shows more things, by their numbers."""
    if first == second:
        return "Both pictures have the same number of things." if language == "en" else "两张图里的东西一样多。"
    if language == "en":
        return f"The {'first' if first > second else 'second'} picture has more things."
    return f"第{'一' if first > second else '二'}张图里的东西更多。"
