"""The rows that a user names → examples, read again each time one is asked for: no text or picture stays in memory."""

from __future__ import annotations

import logging
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import numpy as np

from huayu.data.mixing import Mix, Order, parse_mix
from huayu.data.records import Fault, Reader, Record, open_tables
from huayu.errors import ModelError
from huayu.training.finetune.examples import Example

_LOG = logging.getLogger("huayu")
_OPENED = 20_000  # pictures of a file are opened beforehand when it has no more rows than this


@dataclass(frozen=True)
class _Table:
    """The good rows of a table: ``rows`` and ``turns``, an entry for each example, in order."""

    reader: Reader
    rows: np.ndarray
    turns: np.ndarray

    def example(self, at: int) -> Example:
        record = self.reader[int(self.rows[at])]
        if isinstance(record, Fault):
            raise ModelError(f"{record}; it has changed.", f"{record}；文件已改变。")
        turn = int(self.turns[at])
        return Example(record.picture, record.turns[:turn], *record.turns[turn])

    def of_rows(self, chosen: np.ndarray) -> _Table:
        keep = np.isin(self.rows, chosen)
        return replace(self, rows=self.rows[keep], turns=self.turns[keep])

    @property
    def blocks(self) -> list[int]:
        edges = np.cumsum([0, *self.reader.table.blocks])
        return [int(size) for size in np.diff(np.searchsorted(self.rows, edges))]


class Examples(Sequence[Example]):
    """Every turn of every good row of one or several files, in their order; :meth:`drawn` gives them shuffled.

    ``parts``: for each file its tables, and its weight. Without any weight all rows come once a round; with some,
    files are drawn from in shares (1 where none is named), and each begins anew when it has been through.
    """

    def __init__(self, parts: Sequence[tuple[Sequence[_Table], float | None]]) -> None:
        self.parts = list(parts)
        self.tables = [table for tables, _ in parts for table in tables]
        self.starts = [0, *accumulate(len(table.rows) for table in self.tables)]
        self._orders = lru_cache(4)(self._order)

    def __reduce__(self) -> tuple[Any, ...]:
        return Examples, (self.parts,)  # to a worker, without what is remembered

    def __len__(self) -> int:
        return self.starts[-1]

    @overload
    def __getitem__(self, at: int) -> Example: ...
    @overload
    def __getitem__(self, at: slice) -> list[Example]: ...
    def __getitem__(self, at: int | slice) -> Example | list[Example]:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(len(self)))]
        if not 0 <= at < len(self):
            raise IndexError(at)
        table = bisect(self.starts, at) - 1
        return self.tables[table].example(at - self.starts[table])

    def drawn(self, position: int, seed: tuple[int, ...]) -> Example:
        """The example at ``position`` of an order without an end."""
        mix, orders, starts = self._orders(seed)
        part, within = mix[position] if mix else (0, position)
        return self[starts[part] + orders[part][within]]

    def _order(self, seed: tuple[int, ...]) -> tuple[Mix | None, list[Order], list[int]]:
        weights = [weight for _, weight in self.parts]
        if not any(weights):
            return None, [Order(_blocks(self.tables), seed)], [0]
        parts = [(tables, weight or 1.0) for tables, weight in self.parts if sum(len(t.rows) for t in tables)]
        orders = [Order(_blocks(tables), (*seed, 1 + number)) for number, (tables, _) in enumerate(parts)]
        return Mix([w for _, w in parts], seed), orders, [0, *accumulate(map(len, orders))][:-1]

    def split(self, share: float, seed: int) -> tuple[Examples, Examples]:
        """(the rest, a ``share`` of the rows, at least one), drawn by ``seed``; the turns of a row stay together."""
        rows = [np.unique(table.rows) for table in self.tables]
        total = sum(map(len, rows))
        held = np.zeros(total, bool)
        held[np.random.default_rng(seed).permutation(total)[: max(1, round(share * total))]] = True
        cuts = np.split(held, np.cumsum([len(some) for some in rows])[:-1]) if rows else []
        chosen = {id(t): (some[~cut], some[cut]) for t, some, cut in zip(self.tables, rows, cuts, strict=True)}
        return tuple(
            Examples([([t.of_rows(chosen[id(t)][side]) for t in tables], weight) for tables, weight in self.parts])
            for side in (0, 1)
        )  # type: ignore[return-value]


def _blocks(tables: Sequence[_Table]) -> list[int]:
    """Files whose rows are read as quickly in any order are shuffled as one."""
    if all(table.reader.table.anywhere for table in tables):
        return [sum(len(table.rows) for table in tables)]
    return [size for table in tables for size in table.blocks]


def gather(
    files: str | Path | Sequence[str | Path], pictures: str | Path | None, told: Callable[[Fault], None]
) -> Examples:
    """Reads all rows once, tells of each that is bad, and remembers where the good ones are. Raises ModelError."""
    return Examples(
        [
            (
                [_scanned(Reader(table, pictures, check=len(table) <= _OPENED), told) for table in open_tables(file)],
                weight,
            )
            for file, weight in (parse_mix(files) if files else ())
        ]
    )


def _scanned(reader: Reader, told: Callable[[Fault], None]) -> _Table:
    rows, turns = list[int](), list[int]()
    for place in range(len(reader)):
        found = reader[place]
        if isinstance(found, Record):
            rows += [place] * len(found.turns)
            turns += range(len(found.turns))
        else:
            told(found)
    unchecked = Reader(reader.table, check=False)
    unchecked.folders = reader.folders
    return _Table(unchecked, np.array(rows, np.int64), np.array(turns, np.int32))
