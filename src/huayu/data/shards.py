"""Files that hold many rows with their pictures inside, WebDataset tars and Parquet: read row by row, by position.

Of a file no more is in memory than its list of rows, and of Parquet the slices last read; the pictures stay inside
until one is asked for.
"""

from __future__ import annotations

import json
import os
import tarfile
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huayu.data.pictures import MAX_BYTES, Held
from huayu.errors import ImageError, PromptError
from huayu.runtime.packages import require

if TYPE_CHECKING:
    from pyarrow import RecordBatch

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"})
SLICE = 256  # rows of Parquet that are read together
_SLICES = 12  # kept: what is shuffled together, and a little more
Sample = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class InFile(Held):
    """A picture that is ``size`` bytes of a file from ``offset`` on; ``name``: what it is called there."""

    file: Path
    offset: int
    size: int
    name: str

    def read(self) -> bytes:
        return read_part(self.file, self.offset, self.size)


@dataclass(frozen=True)
class InParquet(Held):
    """A picture in a column of row ``row`` of a Parquet file: bytes, or as the datasets library keeps it."""

    file: Path
    row: int
    column: str
    name: str

    def read(self) -> bytes:
        value = parquet_row(self.file, self.row, (self.column,))[self.column]
        return picture_bytes(value["bytes"] if isinstance(value, dict) else value)


def picture_bytes(value: Any) -> bytes:
    """``value`` when it is bytes. Raises ImageError."""
    if not isinstance(value, bytes):
        raise ImageError("There is no picture.", "没有图片。")
    return value


def read_part(file: Path, offset: int, size: int) -> bytes:
    """That part of a file, at most one byte over the cap of a picture. Raises ImageError."""
    try:
        with file.open("rb") as opened:
            opened.seek(offset)
            return opened.read(min(size, MAX_BYTES + 1))
    except OSError as problem:
        raise ImageError(f"{file} cannot be read: {problem}.", f"无法读取 {file}：{problem}。") from problem


@lru_cache(maxsize=16)
def tar_samples(path: str) -> tuple[tuple[str, Sample], ...]:
    """Of a WebDataset file: (key, {extension: (offset, bytes)}); files of one key belong together.

    Raises PromptError for a damaged one. Source: https://github.com/webdataset/webdataset#the-webdataset-format
    """
    samples: dict[str, Sample] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                key, _, extension = name.partition(".")
                if member.isreg() and key:
                    sample = samples.setdefault(f"{folder}/{key}".lstrip("/"), {})
                    sample[extension.lower()] = member.offset_data, member.size
    except tarfile.TarError as problem:
        raise PromptError(f"{path} is damaged: {problem}.", f"{path} 已损坏：{problem}。") from problem
    return tuple(samples.items())


def json_object(text: bytes) -> dict[str, Any] | PromptError:
    """An object of JSON that can be written again, or what is wrong with the text."""
    try:
        row = json.loads(text)
        json.dumps(row, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as problem:
        return PromptError(f"It is not JSON ({problem}).", f"不是 JSON（{problem}）。")
    return row if isinstance(row, dict) else PromptError("It is not a JSON object.", "不是 JSON 对象。")


def parquet_file(path: str | Path) -> Any:
    """The opened ``pyarrow.parquet.ParquetFile``. Raises PromptError, ModelError without pyarrow."""
    return _parquet(str(path), os.getpid())  # a forked worker must not share the position of its parent's file


@lru_cache(maxsize=8)
def _parquet(path: str, _: int) -> Any:
    require("pyarrow", "parquet")
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(path, buffer_size=2**16, pre_buffer=False)  # so a large row group is not read whole
    except ArrowException as problem:
        raise PromptError(f"{path} is damaged: {problem}.", f"{path} 已损坏：{problem}。") from problem


def parquet_slices(path: str | Path) -> list[range]:
    """Its rows in parts that are read together, in order: of at most :data:`SLICE` rows, none over two row groups."""
    found, start, metadata = list[range](), 0, parquet_file(path).metadata
    for group in range(metadata.num_row_groups):
        end = start + metadata.row_group(group).num_rows
        found += [range(first, min(first + SLICE, end)) for first in range(start, end, SLICE)]
        start = end
    return found


def parquet_row(path: str | Path, row: int, columns: tuple[str, ...]) -> dict[str, Any]:
    """One row. Near rows are quick; a row far before the last one costs reading its row group from the start."""
    (found,) = parquet_rows(path, row, 1, columns)
    return found


def parquet_rows(path: str | Path, first: int, count: int, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """``count`` rows from row ``first`` on, of these columns."""
    reader = _reader(str(path), columns, os.getpid())
    at, end = first, first + count
    while at < end:
        begin, batch = reader.slice_of(at)
        for place in range(at - begin, min(end - begin, batch.num_rows)):
            yield {name: batch.column(name)[place].as_py() for name in columns}
        at = begin + batch.num_rows


@lru_cache(maxsize=8)
def _reader(path: str, columns: tuple[str, ...], process: int) -> _Slices:
    return _Slices(_parquet(path, process), columns, parquet_slices(path))


class _Slices:
    """Slices of a Parquet file in any order; going forward within a row group decodes nothing twice."""

    def __init__(self, file: Any, columns: tuple[str, ...], slices: list[range]) -> None:
        self.file, self.columns, self.slices = file, list(columns), slices
        self.kept: dict[int, RecordBatch] = {}
        self.feed: Iterator[RecordBatch] = iter(())
        self.group, self.next = -1, 0
        self.groups = [0]
        for group in range(file.metadata.num_row_groups):
            self.groups.append(self.groups[-1] + -(-file.metadata.row_group(group).num_rows // SLICE))

    def slice_of(self, row: int) -> tuple[int, RecordBatch]:
        """The first row of the slice that has ``row``, and the slice."""
        number = bisect(self.slices, row, key=lambda part: part.start) - 1
        if number not in self.kept:
            self._read(number)
        return self.slices[number].start, self.kept[number]

    def _read(self, number: int) -> None:
        group = bisect(self.groups, number) - 1
        if group != self.group or self.next > number:
            self.group, self.next = group, self.groups[group]
            self.feed = self.file.iter_batches(SLICE, row_groups=[group], columns=self.columns, use_threads=False)
        while self.next <= number:
            batch = next(self.feed)
            self.next += 1
        while len(self.kept) >= _SLICES:
            self.kept.pop(next(iter(self.kept)))
        self.kept[number] = batch
