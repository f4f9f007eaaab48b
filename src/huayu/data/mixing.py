"""Rows of several files in one endless order: what stands at position ``k`` depends on the seed and ``k`` alone.

So any number of workers may each take their own positions, no row is seen twice before all have been, and a run that
was stopped goes on at its next position.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from huayu.errors import OptionError

WINDOW = 2048  # rows of shards that are shuffled together, at least
_CYCLE = 1000  # rows in which every share is kept, at least


class Order:
    """Rounds over all rows, each in a new order.

    ``blocks``: their sizes, see :class:`huayu.data.tables.Table`. One block is shuffled as a whole. Of several, as of
    shards, the order is drawn, and as many of them as hold :data:`WINDOW` rows are shuffled together: more are never
    open at a time.
    """

    def __init__(self, blocks: Sequence[int], seed: Sequence[int]) -> None:
        self.sizes, self.seed = [size for size in blocks if size], tuple(seed)
        self.starts = [0, *accumulate(self.sizes)]
        self._windows, self._window = lru_cache(2)(self._cut), lru_cache(2)(self._shuffled)

    def __reduce__(self) -> tuple[Any, ...]:
        return Order, (self.sizes, self.seed)  # to a worker, without what is remembered

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, position: int) -> int:
        """The row at ``position`` (0, 1, … without an end)."""
        turn, at = divmod(position, len(self))
        ends, _ = self._windows(turn)
        window = bisect(ends, at)
        return int(self._window(turn, window)[at - (ends[window - 1] if window else 0)])

    def _cut(self, turn: int) -> tuple[list[int], list[list[int]]]:
        """Where the windows of a round end, and the blocks of each."""
        ends, windows, rows = list[int](), list[list[int]](), 0
        order = np.random.default_rng([*self.seed, turn, 2**31]).permutation(len(self.sizes))
        for block in map(int, order):
            if not windows or rows - (ends[-2] if len(ends) > 1 else 0) >= WINDOW:
                windows.append([])
                ends.append(rows)
            windows[-1].append(block)
            rows += self.sizes[block]
            ends[-1] = rows
        return ends, windows

    def _shuffled(self, turn: int, window: int) -> np.ndarray:
        blocks = self._windows(turn)[1][window]
        rows = np.concatenate([np.arange(self.starts[block], self.starts[block + 1]) for block in blocks])
        return np.random.default_rng([*self.seed, turn, window]).permutation(rows)


class Mix:
    """Several orders in shares: position → (which, the position in it).

    In every cycle of a thousand positions (more for a share below a tenth of a percent) each has its share to the row,
    rounded, in an order drawn anew. Raises OptionError for a share that is none.
    """

    def __init__(self, weights: Sequence[float], seed: Sequence[int]) -> None:
        if not all(0 < weight < float("inf") for weight in weights):
            raise OptionError("A weight is a number above 0.", "权重应为大于 0 的数。")
        shares = np.array(weights, float) / sum(weights)
        self.size = max(_CYCLE, int(np.ceil(10 / shares.min())))
        self.counts = np.floor(shares * self.size).astype(int)
        short = np.argsort(self.counts - shares * self.size, kind="stable")
        self.counts[short[: self.size - self.counts.sum()]] += 1
        self.weights, self.seed = tuple(weights), tuple(seed)
        self._cycle = lru_cache(2)(self._drawn)

    def __reduce__(self) -> tuple[Any, ...]:
        return Mix, (self.weights, self.seed)

    def __getitem__(self, position: int) -> tuple[int, int]:
        cycle, at = divmod(position, self.size)
        which, before = self._cycle(cycle)
        return int(which[at]), int(cycle * self.counts[which[at]] + before[at])

    def _drawn(self, cycle: int) -> tuple[np.ndarray, np.ndarray]:
        which = np.random.default_rng([*self.seed, cycle, 2**30]).permutation(
            np.repeat(np.arange(len(self.counts)), self.counts)
        )
        before = np.empty_like(which)
        for part, count in enumerate(self.counts):
            before[which == part] = np.arange(count)
        return which, before


def parse_mix(given: str | Path | Sequence[str | Path]) -> list[tuple[Path, float | None]]:
    """``"file"`` or ``"file:weight"``, one or several; a ``.mix`` file has one a line, its files beside it.

    Lines that begin with # are comments. Raises OptionError.
    """
    found: list[tuple[Path, float | None]] = []
    for text in [given] if isinstance(given, str | Path) else given:
        name, _, number = str(text).rpartition(":")
        try:
            path, weight = (Path(name), float(number)) if name else (Path(text), None)
        except ValueError:
            path, weight = Path(text), None
        if path.suffix == ".mix" and weight is None:
            found += [(path.parent / file, share) for file, share in parse_mix(_lines(path))]
        elif weight is not None and not 0 < weight < float("inf"):
            raise OptionError(f"{text}: a weight is a number above 0.", f"{text}：权重应为大于 0 的数。")
        else:
            found.append((path, weight))
    return found


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise OptionError(f"Cannot read {path}: {problem}", f"无法读取 {path}：{problem}") from problem
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
