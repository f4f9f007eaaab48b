"""A large picture in overlapping tiles: cut it, and join what was answered about them and about the whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from huayu.chat.looking import names_another, read_answer
from huayu.chat.things import Thing, as_listed, things_in
from huayu.data.answers import REGIONS
from huayu.runtime.language import language_of

OVERLAP = 0.25  # of a tile's side
MOST_TILES = 64
_PLAIN = 4.0  # grey levels of standard deviation: below, there is nothing to ask about

Box = tuple[float, float, float, float]  # left, top, right, bottom as shares of the picture's sides

_YES_OR_NO = {
    "zh": re.compile("吗[？?]?$|有没有|是不是|有无"),
    "en": re.compile(r"^(is|are|was|were|do|does|did|can|could|has|have)\b", re.I),
}
# What a part of the picture cannot know: sides, numbers, the ground.
_OF_THE_WHOLE = {
    "zh": re.compile("哪(?!些)|几|多少|颜色|背景|左|右|上面|下面|上方|下方|中间|为什么|怎么|谁"),
    "en": re.compile(r"\b(where|how|why|who|when|left|right|top|bottom|middle|colou?rs?|background)\b", re.I),
}


@dataclass(frozen=True)
class Tile:
    """A part of a picture and where it lies."""

    box: Box
    image: Image.Image


@dataclass(frozen=True)
class Seen:
    """A thing, and in which parts of the picture it was seen; none: only in the picture as a whole."""

    thing: str
    where: tuple[str, ...]


@dataclass
class Sighting:
    """A thing and the tiles (by number) that named it; none: only the whole did."""

    thing: Thing
    tiles: list[int]


def cut(image: Image.Image, parts: int) -> list[Tile]:
    """``parts`` tiles along the shorter side, as many of like shape along the longer; a plain one is left out."""
    width, height = image.size
    short = min(width, height)
    across, down = (max(parts, round(parts * side / short)) for side in image.size)
    while across * down > MOST_TILES:
        across, down = (n if n < max(across, down) else n - 1 for n in (across, down))
    tiles = []
    for top, bottom in _spans(down):
        for left, right in _spans(across):
            box = (round(left * width), round(top * height), round(right * width), round(bottom * height))
            part = image.crop(box)
            if np.asarray(part.convert("L")).std() >= _PLAIN:
                tiles.append(Tile((left, top, right, bottom), part))
    return tiles


def _spans(count: int) -> list[tuple[float, float]]:
    side = 1 / (count - (count - 1) * OVERLAP)
    return [(i * side * (1 - OVERLAP), i * side * (1 - OVERLAP) + side) for i in range(count)]


def sightings(whole: str, answers: Sequence[str]) -> list[Sighting]:
    """What the tiles name, each thing once, then what only the answer about the whole does."""
    found: dict[str, Sighting] = {}
    for number, answer in enumerate(answers):
        for thing in things_in(answer):
            sighting = found.setdefault(thing.key, Sighting(thing, []))
            if number not in sighting.tiles:
                sighting.tiles.append(number)
    for thing in things_in(whole):
        found.setdefault(thing.key, Sighting(thing, []))
    return list(found.values())


def is_for_parts(question: str) -> bool:
    """Whether what is in the parts answers the question; otherwise it is for the whole alone."""
    return not _OF_THE_WHOLE[language_of(question)].search(question)


def is_yes_or_no(question: str) -> bool:
    """Whether one part that says yes answers the question for the whole."""
    return bool(_YES_OR_NO[language_of(question)].search(question.strip()))


def any_yes(question: str, answers: Sequence[str], boxes: Sequence[Box], *, small: bool) -> tuple[str, list[Seen]]:
    """The first yes among the tiles' answers, with the places of all; an empty text when there is none."""
    asked = things_in(question)
    said = []
    for number, answer in enumerate(answers):
        language = language_of(answer)
        yes = read_answer(answer, language)
        if yes and not (small and asked and names_another(answer, asked[0].name, language)):
            said.append(number)
    if not said:
        return "", []
    language = language_of(answers[said[0]])
    where = places([boxes[number] for number in said], language)
    thing = asked[0].name if asked else question
    sentence = re.split(r"(?<=[。！？!?])|(?<=\D\.)(?=\s|$)", answers[said[0]].strip())[0]
    body, mark = re.fullmatch(r"(.*?)([。！？.!?]*)", sentence, re.S).groups()  # type: ignore[union-attr]
    place = f"（{'、'.join(where)}）" if language == "zh" else f" ({', '.join(where)})"
    return body + place + mark, [Seen(thing, where)]


def joined(found: Sequence[Sighting], boxes: Sequence[Box], language: str) -> tuple[str, list[Seen]]:
    """One sentence in ``language`` that names every thing and where it was seen, and the same as data."""
    order = sorted(found, key=lambda sighting: _order([boxes[number] for number in sighting.tiles]))
    seen = [Seen(as_listed(s.thing, language), places([boxes[n] for n in s.tiles], language)) for s in order]
    if language == "zh":
        items = [one.thing + (f"（{'、'.join(one.where)}）" if one.where else "") for one in seen]
        text = items[0] if len(items) == 1 else "、".join(items[:-1]) + "和" + items[-1]
        return f"图里有{text}。", seen
    items = [" ".join([one.thing, " and ".join(one.where)]).strip() for one in seen]
    text = items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
    plural = seen[0].thing.endswith("s") and not seen[0].thing.startswith(("a ", "an "))
    return f"There {'are' if plural else 'is'} {text}.", seen


def places(boxes: Sequence[Box], language: str) -> tuple[str, ...]:
    """In which of nine parts of the picture the tiles lie; tiles that touch are one place."""
    groups: list[list[Box]] = []
    for box in boxes:
        touching = [group for group in groups if any(_touch(box, other) for other in group)]
        groups = [group for group in groups if group not in touching] + [[box, *(b for g in touching for b in g)]]
    names = []
    for group in groups:
        x, y = _centre(group)
        zh, en = REGIONS[min(int(y * 3), 2)][min(int(x * 3), 2)]
        names.append(zh if language == "zh" else en)
    return tuple(dict.fromkeys(names))


def _touch(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _centre(boxes: Sequence[Box]) -> tuple[float, float]:
    """Of what all the boxes share where they do, else of all."""
    left, top = max(box[0] for box in boxes), max(box[1] for box in boxes)
    right, bottom = min(box[2] for box in boxes), min(box[3] for box in boxes)
    if left < right and top < bottom:
        return (left + right) / 2, (top + bottom) / 2
    sums = [sum(box[i] for box in boxes) / len(boxes) for i in range(4)]
    return (sums[0] + sums[2]) / 2, (sums[1] + sums[3]) / 2


def _order(boxes: Sequence[Box]) -> float:
    """Left to right, and downwards in one column; what has no place comes last."""
    if not boxes:
        return 9.0
    x, y = _centre(boxes)
    return x + 0.5 * y
