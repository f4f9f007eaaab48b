"""What a model answers about scenes never trained on, in which language, and whether the content is right."""

# B rows, Q queries, D width

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from huayu.data import answers, world
from huayu.experiments.transfer.pool import Pool
from huayu.experiments.transfer.talk import LANGUAGES, SKILLS, Talker, Turn
from huayu.models.cpm_bee import BeeVocabulary, PackedItem, collate

LONGEST = 32  # tokens of an answer


class Asked(NamedTuple):
    """One question about picture ``picture``, and what was answered."""

    picture: int
    turn: Turn
    answer: str


def questions(talker: Talker, pool: Pool, count: int, seed: int = 5) -> list[tuple[int, Turn]]:
    """For each skill and language ``count`` questions; the two languages ask the same of the same pictures."""
    found = []
    for skill in SKILLS:
        picture = made = 0
        while made < count:
            asked = [
                talker.turn(np.random.default_rng([seed, picture, made]), pool.scenes[picture], skill, language)
                for language in LANGUAGES
            ]
            found += [(picture, turn) for turn in asked if turn is not None]
            made += asked[0] is not None
            picture = (picture + 1) % len(pool.scenes)
    return found


@torch.no_grad()
def answer(
    model: Any, rows: Sequence[PackedItem], vocabulary: BeeVocabulary, image_embeds: Tensor | None = None
) -> list[str]:
    """Greedy answers to packed prompts; ``image_embeds`` (B, Q, D) are their pictures."""
    texts: list[str] = []
    for start in range(0, len(rows), 64):
        part = rows[start : start + 64]
        inputs = collate(part, vocabulary, padding="left", start_answer=True)
        if image_embeds is not None:
            inputs["image_embeds"] = image_embeds[start : start + 64, None]
        tokens = model.generate(
            **inputs, do_sample=False, max_new_tokens=LONGEST, pad_token_id=0, bos_token_id=6, eos_token_id=7
        )
        width = inputs["input_ids"].shape[1]
        for row in tokens[:, width:].tolist():
            spoken = row[: row.index(7)] if 7 in row else row
            texts.append(vocabulary.decode([t for t in spoken if 7 < t < len(vocabulary)], {}).strip())
    return texts


def tongue(text: str) -> str:
    """ "en", "zh", "mixed", or "none" for an answer without a word."""
    han, latin = bool(re.search(r"[\u3400-\u9fff]", text)), bool(re.search("[A-Za-z]", text))
    return "mixed" if han and latin else "zh" if han else "en" if latin else "none"


def content(skill: str, text: str) -> list[str]:
    """What an answer says, whatever its language: the facts of its skill, in order, by the world's tables."""
    names, pattern = _names(skill)
    return [names[match[0].removesuffix("s")] for match in pattern.finditer(text)]


@cache
def _names(skill: str) -> tuple[dict[str, str], re.Pattern[str]]:
    """What the facts of a skill are called in either language, and where to find it: longer names first."""
    tables: dict[str, list[tuple[str, ...]]] = {
        "background": [(en, en, zh[:-1]) for en, zh, _ in world.BACKGROUNDS],
        "count": [(str(n), f"{answers.NUMBERS['en'][n]} thing", f"{answers.NUMBERS['zh'][n]}样") for n in (1, 2, 3)],
        "category": [(key, en, zh) for key, (en, zh) in world.CATEGORIES.items()],
        "yesno": [("yes", "Yes", "有，"), ("no", "No", "没有，")],
    }
    table = tables.get(skill, [(concept.key, concept.en, concept.zh) for concept in world.CONCEPTS])
    names = {name.removesuffix("s"): key for key, *spoken in table for name in spoken}
    english = "|".join(sorted((re.escape(n) for n in names if n.isascii()), key=len, reverse=True))
    chinese = "|".join(sorted((re.escape(n) for n in names if not n.isascii()), key=len, reverse=True))
    return names, re.compile(rf"\b(?:{english})s?\b|{chinese}")


Judge = Callable[[Asked], bool]
JUDGES: dict[str, Judge] = {
    "exact": lambda a: a.answer == a.turn.answer,
    "content": lambda a: content(a.turn.skill, a.answer) == content(a.turn.skill, a.turn.answer),
    "language": lambda a: tongue(a.answer) == a.turn.language,
}


def figures(asked: Sequence[Asked]) -> dict[str, dict[str, dict[str, float]]]:
    """language → skill (and "all") → share exact, right in content, in the asked language, and of the answers in
    another language the share right in content ("translated"; left out when there are none)."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for language in LANGUAGES:
        mine = [a for a in asked if a.turn.language == language]
        table[language] = {}
        for skill in (*SKILLS, "all"):
            rows = [a for a in mine if skill in ("all", a.turn.skill)]
            cell = {name: sum(map(judge, rows)) / len(rows) for name, judge in JUDGES.items()}
            foreign = [a for a in rows if not JUDGES["language"](a)]
            if foreign:
                cell["translated"] = sum(map(JUDGES["content"], foreign)) / len(foreign)
            table[language][skill] = cell
    return table
