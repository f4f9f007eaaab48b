"""Rows that are kept from training, to measure with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Row = TypeVar("Row")


def hold_back(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """The rows to learn, and ``share`` of them, at least one, drawn by ``seed``; both in the order they had."""
    held = set(np.random.default_rng(seed).permutation(len(rows))[: max(1, round(share * len(rows)))].tolist())
    return [row for at, row in enumerate(rows) if at not in held], [row for at, row in enumerate(rows) if at in held]
