"""What is said about a scene in Chinese and in English: questions with their one right answer, captions, passages."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from huayu.data import answers, wordings, world
from huayu.experiments.transfer.scenes import Facts

LANGUAGES = ("en", "zh")
SKILLS = ("name", "background", "count", "place", "yesno", "category", "list")
CAPTIONS = ("describe", "layout")
WORDINGS = 4  # ways to ask for each skill
LAYOUT = {
    "en": ("Tell me where each thing is.", "Where is everything?", "Which thing is where?", "Name each place."),
    "zh": ("说说东西都在哪里。", "东西都在哪里？", "什么东西在哪里？", "说出位置。"),
}
SAY_IN = {
    ("en", "en"): "Say it in english.", ("en", "zh"): "Say it in chinese.",
    ("zh", "en"): "用英语说。", ("zh", "zh"): "用中文说。",
}  # fmt: skip


class Turn(NamedTuple):
    """One question and its answer in the same language, and the answer in the other language."""

    skill: str
    language: str
    question: str
    answer: str
    other: str


def region(cell: int, language: str) -> str:
    """ "on the left", "左边"."""
    return answers.REGIONS[1][cell][language == "en"]


def stands(concept: int, cell: int, language: str) -> str:
    """Which thing is in a part of the picture."""
    if language == "en":
        return f"{answers.there_is(concept)} {answers.noun(concept, 'en')} {region(cell, 'en')}."
    return f"{region(cell, 'zh')}是{answers.noun(concept, 'zh')}。"


def layout(facts: Facts, language: str) -> str:
    """Where each thing is."""
    return _sentences([stands(*thing, language) for thing in facts.things], language)


def _sentences(parts: list[str], language: str) -> str:
    return (" " if language == "en" else "").join(parts)


class Talker:
    """Questions about scenes of a world of ``concepts``."""

    def __init__(self, concepts: list[int]) -> None:
        self.concepts = concepts

    def turn(self, rng: np.random.Generator, facts: Facts, skill: str, language: str) -> Turn | None:
        """A question of this skill; None when the scene does not allow it."""
        said = self._said(rng, facts, skill)
        if said is None:
            return None
        ask, answer = said
        other = "zh" if language == "en" else "en"
        return Turn(skill, language, ask(rng, language), answer[language], answer[other])

    def _said(self, rng: np.random.Generator, facts: Facts, skill: str) -> tuple[_Ask, dict[str, str]] | None:
        alone = len(facts.things) == 1
        concept, cell = facts.things[int(rng.integers(len(facts.things)))]
        if skill == "name" and alone:
            return _Ask("name"), {k: answers.name([concept], k) for k in LANGUAGES}
        if skill == "category" and alone:
            return _Ask("category-it"), {k: answers.category(concept, k) for k in LANGUAGES}
        if skill == "background":
            return _Ask("background"), {k: answers.background(facts.ground, k) for k in LANGUAGES}
        if skill == "count":
            return _Ask("count"), {k: answers.count(len(facts.things), k) for k in LANGUAGES}
        if skill == "place" and not alone:
            return _Ask("place", cell=cell), {k: stands(concept, cell, k) for k in LANGUAGES}
        if skill == "yesno":
            there = bool(rng.random() < 0.5)
            absent = [c for c in self.concepts if c not in facts.concepts]
            concept = concept if there else absent[int(rng.integers(len(absent)))]
            return _Ask("yesno", concept), {k: answers.yesno(concept, there, k) for k in LANGUAGES}
        if skill == "list" and not alone:
            return _Ask("list"), {k: answers.everything(facts.concepts, k) for k in LANGUAGES}
        if skill == "describe":
            return _Ask("describe"), {k: answers.describe(facts.ground, facts.concepts, k) for k in LANGUAGES}
        if skill == "layout":
            return _Ask("layout"), {k: layout(facts, k) for k in LANGUAGES}
        return None


class _Ask(NamedTuple):
    """A question in one of its wordings."""

    kind: str
    concept: int = 0
    cell: int = 0

    def __call__(self, rng: np.random.Generator, language: str) -> str:
        table = LAYOUT[language] if self.kind == "layout" else wordings.TRAIN[self.kind][language]
        text = table[int(rng.integers(min(WORDINGS, len(table))))]
        entry = world.CONCEPTS[self.concept]
        if language == "zh":
            return text.replace("{side}", region(self.cell, "zh")).replace("{thing}", entry.zh)
        for name, value in (("{side}", region(self.cell, "en")), ("{a_thing}", entry.phrase), ("{is}", "is")):
            text = text.replace(name, value)
        return text[0].upper() + text[1:]


def passage(rng: np.random.Generator, facts: Facts, language: str) -> str:
    """The scene told in words: all of it, in sentences or in notes."""
    en, zh, _ = world.BACKGROUNDS[facts.ground]
    if rng.random() < 0.5:
        things = [stands(*thing, language) for thing in facts.things]
        ground = answers.background(facts.ground, language)
    else:
        first = rng.random() < 0.5
        named = [
            (world.CONCEPTS[c].en if language == "en" else world.CONCEPTS[c].zh, region(cell, language))
            for c, cell in facts.things
        ]
        mark, space = (",", " ") if language == "en" else ("，", "")
        things = [f"{name}{space}{at}{mark}" if first else f"{at}{space}{name}{mark}" for name, at in named]
        ground = f"{en} background{mark}" if language == "en" else f"{zh}背景{mark}"
    parts = [ground, *things] if rng.random() < 0.5 else [*things, ground]
    return _sentences(parts, language)
