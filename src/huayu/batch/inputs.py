"""What a batch reads: JSON lines, folders of pictures, WebDataset tar files, Parquet; cut into shards, read row by row.

Any worker on any machine that sees the files reads the same rows of a shard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from huayu.data.pictures import MAX_BYTES
from huayu.data.shards import PICTURES, json_object, parquet_file, parquet_rows, tar_samples
from huayu.errors import ImageError, PromptError
from huayu.paint.options import PaintOptions

_FILES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".tar": "tar", ".parquet": "parquet"}
# Fields that are read; of Parquet no other column is fetched.
FIELDS = {option.name for option in fields(PaintOptions)} | {"id", "images", "question", "questions", "prompt"}


@dataclass(frozen=True)
class Shard:
    """``count`` rows of ``source`` from row ``first`` (0, 1, …); ``offset``: the byte where a file of lines has it."""

    number: int
    source: str
    first: int
    count: int
    offset: int = 0

    @property
    def name(self) -> str:
        """Of its folder in the output."""
        return f"shard-{self.number:05}"


@dataclass(frozen=True)
class Row:
    """One input: ``id`` (its own, or file name and row number), and its ``fields``; ``problem``: why it has none."""

    id: str
    source: str
    number: int
    fields: dict[str, Any] = field(default_factory=dict)
    problem: PromptError | None = None

    def picture(self, name: str = "image") -> Path | bytes | None:
        """The picture in the field ``name``: bytes, or a path beside the source. Raises ImageError."""
        return self._picture(self.fields.get(name))

    def pictures(self) -> list[Path | bytes]:
        """``image``, then ``images``. Raises ImageError."""
        several = self.fields.get("images") or ()
        if not isinstance(several, list | tuple):
            raise ImageError("images is a list of pictures.", "images 应为图片列表。")
        found = [self.picture(), *map(self._picture, several)]
        return [picture for picture in found if picture is not None]

    def _picture(self, value: Any) -> Path | bytes | None:
        if isinstance(value, dict):  # as the datasets library keeps pictures
            value = value.get("bytes") or value.get("path")
        if value is None or isinstance(value, bytes | Path):
            return value
        if not isinstance(value, str):
            raise ImageError("A picture is a path or bytes.", "图片应为路径或字节。")
        if value.lower().startswith(("http://", "https://")):
            raise ImageError("A picture's URL is not accepted here.", "此处不接受图片网址。")
        return Path(self.source).parent / value


def split(inputs: Sequence[str | Path], size: int) -> tuple[list[Shard], str]:
    """All rows of ``inputs`` in shards of at most ``size``, and a fingerprint of what they hold.

    An input is a file, or a folder of such files, or a folder of pictures (with all folders in it). The fingerprint
    changes with names, sizes and rows, wherever the files lie. Raises PromptError for what cannot be read.
    """
    shards, digest = list[Shard](), hashlib.sha256()
    for source in [file for given in inputs for file in _sources(Path(given))]:
        starts, count = _starts(source, size)
        weight = _listing_digest(str(source)) if source.is_dir() else source.stat().st_size
        digest.update(f"{source.name}\0{weight}\0{count}\n".encode())
        for first, offset in zip(range(0, count, size), starts, strict=True):
            shards.append(Shard(len(shards), str(source), first, min(size, count - first), offset))
    if not shards:
        raise PromptError("There is nothing in the input.", "输入中没有任何内容。")
    return shards, digest.hexdigest()


def read_shard(shard: Shard) -> Iterator[Row]:
    """Its rows, one after the other; one that cannot be read has a ``problem``. Raises PromptError, OSError."""
    path = Path(shard.source)
    kind = "folder" if path.is_dir() else _FILES[path.suffix.lower()]
    for place, found in enumerate(_READERS[kind](path, shard)):
        number = shard.first + place
        name = f"{path.name}#{number}"
        if isinstance(found, PromptError):
            yield Row(name, shard.source, number, problem=found)
        else:
            own = found.pop("id", None)
            yield Row(name if own is None else str(own), shard.source, number, found)


def _sources(given: Path) -> list[Path]:
    if given.is_dir():
        files = sorted(file for file in given.iterdir() if file.suffix.lower() in _FILES and file.is_file())
        return [file.absolute() for file in files] or [given.absolute()]
    if not given.is_file():
        raise PromptError(f"The input {given} does not exist.", f"输入 {given} 不存在。")
    if given.suffix.lower() not in _FILES:
        known = ", ".join(_FILES)
        raise PromptError(
            f"{given} is not an input; there are: a folder of pictures, {known}.",
            f"{given} 不能作为输入；可用：图片文件夹、{known}。",
        )
    return [given.absolute()]


def _starts(source: Path, size: int) -> tuple[list[int], int]:
    """The offset of each shard (0 where it is not needed) and the number of rows."""
    if not source.is_dir() and _FILES[source.suffix.lower()] == "jsonl":
        offsets, count, at = [], 0, 0
        with source.open("rb") as file:
            for line in file:
                if line.strip():
                    offsets += [at] if count % size == 0 else []
                    count += 1
                at += len(line)
        return offsets, count
    if source.is_dir():
        count = len(_listing(str(source)))
    elif source.suffix.lower() == ".tar":
        count = len(tar_samples(str(source)))
    else:
        count = parquet_file(source).metadata.num_rows
    return [0] * -(-count // size), count


def _lines(path: Path, shard: Shard) -> Iterator[dict[str, Any] | PromptError]:
    with path.open("rb") as file:
        file.seek(shard.offset)
        for _ in range(shard.count):
            line = file.readline()
            while line and not line.strip():
                line = file.readline()
            yield json_object(line.removeprefix(b"\xef\xbb\xbf"))


@lru_cache(maxsize=4)
def _listing(folder: str) -> tuple[str, ...]:
    found = (file for file in Path(folder).rglob("*") if file.suffix.lower() in PICTURES and file.is_file())
    return tuple(sorted(file.relative_to(folder).as_posix() for file in found))


def _listing_digest(folder: str) -> str:
    return hashlib.sha256("\n".join(_listing(folder)).encode("utf-8", "surrogateescape")).hexdigest()


def _folder(path: Path, shard: Shard) -> Iterator[dict[str, Any]]:
    for name in _listing(str(path))[shard.first : shard.first + shard.count]:
        yield {"id": name, "image": path / name}


def _tar(path: Path, shard: Shard) -> Iterator[dict[str, Any] | PromptError]:
    with path.open("rb") as file:
        for key, members in tar_samples(str(path))[shard.first : shard.first + shard.count]:
            yield _sample(file, key, members)


def _sample(file: BinaryIO, key: str, members: dict[str, tuple[int, int]]) -> dict[str, Any] | PromptError:
    row: dict[str, Any] = {"id": key}
    for extension, (offset, size) in sorted(members.items()):
        file.seek(offset)
        data = file.read(min(size, MAX_BYTES + 1))
        last = extension.rpartition(".")[2]
        if f".{last}" in PICTURES:
            row["image"] = data
        elif last == "txt":
            row["prompt"] = data.decode("utf-8", "replace").strip()
        elif last == "json":
            said = json_object(data)
            if isinstance(said, PromptError):
                return said
            row = {**said, **row}
    return row


def _rows(path: Path, shard: Shard) -> Iterator[dict[str, Any]]:
    columns = tuple(name for name in parquet_file(path).schema_arrow.names if name in FIELDS)
    for row in parquet_rows(path, shard.first, shard.count, columns):
        yield {name: value for name, value in row.items() if value is not None}


_READERS: dict[str, Any] = {"jsonl": _lines, "folder": _folder, "tar": _tar, "parquet": _rows}
