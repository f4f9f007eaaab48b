"""Exactness of answers under teacher forcing, which for a whole right answer is the same as greedy decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor


def right_answers(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits (B, T, V), labels (B, T) with -100 ignored → (B,) bool: every labelled token is the top one."""
    return ((logits.argmax(-1) == labels) | (labels == -100)).all(1)


def shares(right: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """Of right answers, by group and of "all"."""
    every = [ok for group in right.values() for ok in group]
    return {"all": sum(every) / len(every), **{k: sum(v) / len(v) for k, v in sorted(right.items())}}
