"""Jobs over rows of data files, in every layout that training reads: shard by shard, then put together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from huayu.batch.inputs import Row, Shard
from huayu.checkpoints.atomic import replacing
from huayu.data.records import Fault, Reader, Record, open_tables
from huayu.data.writing import line_of, write_tar
from huayu.errors import PromptError

Told = dict[str, Any]  # a row's line in results.jsonl
Wanted = Callable[[Told], dict[str, Any] | None]


@dataclass(frozen=True)
class RowsJob:
    """``inputs``: what :func:`huayu.data.records.open_tables` reads. ``target``: a folder; ``pictures``: see Reader.

    Each row's outcome stands in ``target/shards``, in shards of ``shard_size`` rows that are done once;
    ``loading``: of models, ``device``.
    """

    inputs: tuple[str, ...]
    target: Path
    pictures: str | None = None
    shard_size: int = 1000
    loading: dict[str, Any] = field(default_factory=dict)
    stop_on_error: bool = False

    @property
    def output(self) -> Path:
        return self.target / "shards"

    def split(self) -> tuple[list[Shard], str]:
        """Raises ModelError for what cannot be read."""
        shards, digest = list[Shard](), hashlib.sha256()
        for table in (table for given in self.inputs for table in open_tables(given)):
            size = 0 if table.path.is_dir() else table.path.stat().st_size
            digest.update(f"{table.path.name}\0{size}\0{len(table)}\n".encode())
            for first in range(0, len(table), self.shard_size):
                count = min(self.shard_size, len(table) - first)
                shards.append(Shard(len(shards), str(table.path.absolute()), first, count))
        if not shards:
            raise PromptError("There is nothing in the input.", "输入中没有任何内容。")
        return shards, digest.hexdigest()

    def read(self, shard: Shard) -> Iterator[Row]:
        """Rows whose ``fields`` hold the ``record``; pictures are not opened."""
        name = Path(shard.source).name
        for place, found in self._records(shard):
            if isinstance(found, Fault):
                problem = PromptError(f"{found.field}: {found.en}", f"{found.field}：{found.zh}")
                yield Row(f"{name}#{found.row}", shard.source, place, problem=problem)
            else:
                yield Row(f"{name}#{found.row}", shard.source, place, {"record": found})

    def _records(self, shard: Shard) -> Iterator[tuple[int, Record | Fault]]:
        reader = reader_of(shard.source, self.pictures)
        return ((place, reader[place]) for place in range(shard.first, shard.first + shard.count))

    def told(self, shard: Shard) -> Iterator[Told]:
        """The outcomes of a finished shard, in order; ``file``: its source."""
        with (self.output / shard.name / "results.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line) | {"file": shard.source}

    def put_together(self, shards: Sequence[Shard], name: str, wanted: Wanted) -> int:
        """Writes the rows of which ``wanted`` says the fields; returns how many.

        Those whose pictures are files into ``name.jsonl``; those inside shards into ``name/00000.tar``, one for each
        shard of the work, none written twice.
        """
        self.target.mkdir(parents=True, exist_ok=True)
        count = 0
        with replacing(self.target / f"{name}.jsonl") as aside:
            with aside.open("w", encoding="utf-8") as lines:
                for shard in shards:
                    inside = []
                    for record, fields in self._wanted(shard, wanted):
                        count += 1
                        if record.picture is None or isinstance(record.picture, Path):
                            lines.write(line_of(record, fields, self.target.absolute()))
                        else:
                            inside.append((record, fields))
                    tar = self.target / name / f"{shard.number:05}.tar"
                    if inside and not tar.is_file():
                        write_tar(tar, inside)
            empty = not aside.stat().st_size
        if empty:
            (self.target / f"{name}.jsonl").unlink()
        return count

    def _wanted(self, shard: Shard, wanted: Wanted) -> Iterator[tuple[Record, dict[str, Any]]]:
        reader = reader_of(shard.source, self.pictures)
        for told in self.told(shard):
            fields = wanted(told)
            record = reader[told["row"]] if fields is not None else None
            if fields is not None and isinstance(record, Record):
                yield record, fields


@lru_cache(maxsize=4)
def reader_of(source: str, pictures: str | None) -> Reader:
    """The rows of one file or folder of a job."""
    (table,) = open_tables(source)
    return Reader(table, pictures)
