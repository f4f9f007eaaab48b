"""Questions as people put them: a wording, a name, and how it is typed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from huayu.data import answers, wordings, wordings_pairs, world
from huayu.data import wordings_unknown as unknowns
from huayu.data.world import CONCEPTS, OUTSIDE

# How wordings begin that tell what to do.
ORDERS = {
    "zh": ("列出", "描述", "说说", "介绍", "告诉", "数一数", "把"),
    "en": ("Tell", "Name", "List", "Describe", "Count", "Find", "Give", "Introduce"),
}

TRAIN, HELD = {**wordings.TRAIN, **wordings_pairs.TRAIN}, {**wordings.HELD, **wordings_pairs.HELD}
NTH = {"zh": ("第一张", "第二张"), "en": ("first", "second")}


def tongues(rng: np.random.Generator, language: str | None) -> Callable[[], str]:
    """What gives the language of each turn: see :func:`huayu.data.dialogues.dialogue`."""
    if language is None:
        draw = rng.random()
        language = "zh" if draw < 0.46 else "en" if draw < 0.92 else "mixed"
    spoken = {"zh": "zh", "en": "en"}.get(language)
    return lambda: spoken or ("zh" if rng.random() < 0.5 else "en")


@dataclass
class Asker:
    """Draws questions from the wordings "train" or "held"."""

    rng: np.random.Generator
    which: str
    things: int = len(CONCEPTS)  # of the world that are spoken of, the first ones

    def ask(
        self, kind: str, tongue: str, concept: int = OUTSIDE, side: str = "left", *, generic: bool = True, nth: int = 0
    ) -> str:
        """A question of this kind in one of its wordings; ``nth``: which of the pictures it is about."""
        table = (TRAIN if self.which == "train" else HELD)[kind][tongue]
        text = table[int(self.rng.integers(len(table)))]
        if self.which == "train":
            text = self.polite(text, kind, tongue)
        text = text.replace("{nth}", NTH[tongue][nth])
        if "{" in text:
            text = self.fill(text, tongue, concept, side, generic)
        return self.typed(text, tongue)

    def polite(self, text: str, kind: str, tongue: str) -> str:
        """At times with a "please", but never so that it becomes a wording that is held back."""
        orders = text.startswith(ORDERS[tongue])
        if self.rng.random() >= (0.3 if orders else 0.06 if tongue == "zh" else 0.0):
            return text
        if tongue == "en":
            kinder = f"Please {text[0].lower()}{text[1:]}"
        else:
            kinder = text if text.startswith("请") else ("请" if orders else "请问") + text
        return text if kinder in HELD[kind][tongue] else kinder

    def fill(self, text: str, tongue: str, concept: int, side: str, generic: bool) -> str:
        """Put names and sides in the places of a wording."""
        chinese, other, english = answers.SIDES[side]
        if tongue == "zh":
            side_text = chinese if "最" in text or self.rng.random() < 0.7 else other
            return text.replace("{side}", side_text).replace("{thing}", self.called(concept, "zh", generic))
        plural = answers.plural(concept)
        called = self.called(concept, "en", generic)
        counted = concept == OUTSIDE or not CONCEPTS[concept].phrase.startswith("some ")
        vowel = called[0] in "aeiou" and called != "unicorn"
        article = ("an " if vowel else "a ") if counted else "any "
        for name, value in (
            ("{side}", english),
            ("{thing}", called),
            ("{a_thing}", article + called),
            ("{is}", "are" if plural else "is"),
        ):
            text = text.replace(name, value)
        return text[0].upper() + text[1:]

    def called(self, concept: int, tongue: str, generic: bool) -> str:
        """The thing's name, or at times another name for it."""
        entry = CONCEPTS[concept]
        name, others = (entry.zh, entry.aliases_zh) if tongue == "zh" else (entry.en, entry.aliases_en)
        if others and self.rng.random() < 0.25:
            other = others[int(self.rng.integers(len(others)))]
            if generic or other not in world.GENERIC:
                return other
        return name

    def unknown(self, tongue: str, there: Sequence[int] = ()) -> str:
        """A question that the picture does not answer, about a word outside the world, or mere chaff."""
        held = self.which == "held"
        if not held and self.rng.random() < 0.15:
            words = unknowns.CHAFF[tongue]
            picked = [words[int(i)] for i in self.rng.integers(len(words), size=int(self.rng.integers(2, 8)))]
            return self.typed(("" if tongue == "zh" else " ").join(picked) + ("？" if tongue == "zh" else "?"), tongue)
        table = (unknowns.UNKNOWN_HELD if held else unknowns.UNKNOWN)[tongue]
        text = table[int(self.rng.integers(len(table)))]
        nouns = (unknowns.NOUNS_HELD if held else unknowns.NOUNS)[tongue]
        text = text.replace("{noun}", nouns[int(self.rng.integers(len(nouns)))])
        if "{" in text:
            known = [concept for concept in there if concept != OUTSIDE] or range(self.things)
            concept = known[int(self.rng.integers(len(known)))]
            text = self.fill(text, tongue, concept, "left", True)
        return self.typed(text, tongue)

    def typed(self, text: str, tongue: str) -> str:
        """As people type: often without the last mark, in small letters, or with marks of the other script."""
        draw = self.rng.random()
        if draw < 0.25:
            text = text.rstrip("?.!？。！")
        elif draw < 0.35 and tongue == "zh":
            text = text.replace("？", "?").replace("。", ".").replace("！", "!")
        if tongue == "en" and self.rng.random() < 0.35:
            text = text[0].lower() + text[1:]
        return text
