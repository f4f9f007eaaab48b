"""The built-in check of prompts: reviewed word lists, small enough to read, that say what they found."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from operator import itemgetter
from typing import Any

from huayu.safety.text import normalise, unmasked
from huayu.safety.verdicts import passed
from huayu.types import Verdict

_HAN = re.compile(r"[\u3400-\u9fff]")
_WORD_SCORE, _PAIR_SCORE = 1.0, 0.9


@dataclass(frozen=True)
class Rule:
    """A word, or with ``other`` two words at most ``gap`` characters apart, whichever comes first."""

    word: re.Pattern[str]
    other: re.Pattern[str] | None = None
    gap: int = 0

    def find(self, text: str) -> str | None:
        """The part of ``text`` that matches. Its time grows with the text's length only."""
        if self.other is None:
            match = self.word.search(text)
            return match and match[0]
        spans = [(*match.span(), side) for side in (self.word, self.other) for match in side.finditer(text)]
        for (start, end, side), (next_start, next_end, next_side) in pairwise(sorted(spans, key=itemgetter(0))):
            if side is not next_side and next_start - end <= self.gap:
                return text[start : max(end, next_end)]
        return None


@dataclass(frozen=True)
class Category:
    """One kind of unsafe prompt. ``innocent`` phrases are taken out before the ``rules`` look."""

    label: str
    zh: str
    en: str
    innocent: re.Pattern[str]
    rules: tuple[Rule, ...]
    help_zh: str = ""
    help_en: str = ""

    def find(self, text: str) -> tuple[str, float] | None:
        """What of the normalised ``text`` matches, and the score."""
        left = self.innocent.sub(" ; ", text)
        for rule in self.rules:
            if found := rule.find(left):
                return found, _WORD_SCORE if rule.other is None else _PAIR_SCORE
        return None


class WordCheck:
    """Judges a prompt in Chinese or English by ``words.toml``; the label is the first category that matches.

    The score is 1.0 for a word that is enough by itself and 0.9 for two that are unsafe together.
    """

    name = "words"

    def __call__(self, text: str) -> Verdict:
        plain = normalise(text)
        views = dict.fromkeys((plain, unmasked(plain)))
        for category in categories():
            for view in views:
                if found := category.find(view):
                    return _refused(category, *found)
        return passed(self.name)


@lru_cache(maxsize=1)
def categories() -> tuple[Category, ...]:
    """Those of ``words.toml``, the gravest first."""
    table = tomllib.loads(files(__package__).joinpath("words.toml").read_text("utf-8"))
    return tuple(_category(entry) for entry in table["category"])


def _category(entry: dict[str, Any]) -> Category:
    pairs = [Rule(_any(pair["a"]), _any(pair["b"]), pair["gap"]) for pair in entry.get("pair", ())]
    texts = {key: entry[key] for key in ("label", "zh", "en", "help_zh", "help_en") if key in entry}
    return Category(innocent=_any(entry["innocent"]), rules=(Rule(_any(entry["words"])), *pairs), **texts)


def _any(patterns: list[str]) -> re.Pattern[str]:
    """One of these; a pattern without Han characters is an English word: it has edges, its spaces may be hyphens."""
    chinese = [pattern for pattern in patterns if _HAN.search(pattern)]
    english = [re.sub(r" \??", _space, pattern) for pattern in patterns if not _HAN.search(pattern)]
    parts = [*chinese, f"(?<![a-z])(?:{'|'.join(english)})(?![a-z])"] if english else chinese
    return re.compile("|".join(parts))


def _space(match: re.Match[str]) -> str:
    return "[ _-]*" if "?" in match[0] else "[ _-]+"


def _refused(category: Category, matched: str, score: float) -> Verdict:
    zh = f"提示涉及{category.zh}（命中“{matched}”）。{category.help_zh}"
    en = f"The prompt is about {category.en} (matched “{matched}”).{' ' * bool(category.help_en)}{category.help_en}"
    return Verdict(False, category.label, score, zh, en)
