"""Small records that every layer may use. No heavy imports here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """What a check says of a prompt or a picture; ``score`` is in [0, 1]."""

    allowed: bool
    label: str
    score: float
    reason_zh: str
    reason_en: str


@dataclass(frozen=True)
class Usage:
    """Cost of one answer: token counts and wall seconds."""

    prompt_tokens: int
    completion_tokens: int
    seconds: float
