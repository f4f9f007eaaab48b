"""Exactness of answers under teacher forcing, which for a whole right answer is the same as greedy decoding."""

from __future__ import annotations

from torch import Tensor


def exact_answers(logits: Tensor, labels: Tensor) -> list[bool]:
    """Logits (B, T, V), labels (B, T) with -100 ignored → for each row, whether every labelled token is the top one."""
    return ((logits.argmax(-1) == labels) | (labels == -100)).all(1).tolist()
