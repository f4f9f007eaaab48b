"""Data files as tables: so many rows, each read by its position, whatever the layout.

Sources: the COCO captions format, https://cocodataset.org/#format-data; Visual Genome's region_descriptions.json; what
img2dataset writes (files, webdataset, parquet): a picture with a ``.txt`` and a ``.json`` of the same name.
"""

from __future__ import annotations

import csv
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from huayu.data.rows import PICTURE_FIELDS, TEXT_FIELDS, Bad
from huayu.data.shards import (
    PICTURES,
    InFile,
    InParquet,
    json_object,
    parquet_file,
    parquet_row,
    parquet_slices,
    tar_samples,
)
from huayu.errors import PromptError

_LOOKS_LIKE_PICTURE = re.compile(r"^https?://|\.(png|jpe?g|webp|gif|bmp)$", re.IGNORECASE)


class Table(ABC):
    """Rows of one file or folder.

    ``inside``: further folders, by name, in which its pictures may be. ``anywhere``: any row is read as quickly,
    whichever was read before.
    """

    inside: tuple[str, ...] = ()
    anywhere = True

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def item(self, place: int) -> tuple[int, Any]:
        """Row ``place`` (0, 1, …): its number for people, and a mapping, or Bad."""

    @property
    def blocks(self) -> list[int]:
        """Its rows cut into parts (their sizes, in order) within which any order is read as quickly."""
        return [len(self)]


class ListTable(Table):
    """Rows in memory, of a JSON file."""

    def __init__(self, path: Path, rows: list[Any], inside: tuple[str, ...] = ()) -> None:
        super().__init__(path)
        self.rows, self.inside = rows, inside

    def __len__(self) -> int:
        return len(self.rows)

    def item(self, place: int) -> tuple[int, Any]:
        return place + 1, self.rows[place]


def coco_rows(whole: Mapping[str, Any]) -> list[Any]:
    """A row for each of its ``annotations``."""
    names = {image.get("id"): image for image in whole["images"] if isinstance(image, Mapping)}
    rows: list[Any] = []
    for said in whole["annotations"]:
        image = names.get(said.get("image_id")) if isinstance(said, Mapping) else None
        if image is None:
            rows.append(Bad("image_id", "there is no such image", "没有这张图片"))
        else:
            rows.append({"file_name": image.get("file_name"), "caption": said.get("caption")})
    return rows


def region_rows(images: list[Any]) -> list[Any]:
    """A row for each region of Visual Genome: what is in the box is the picture."""
    rows: list[Any] = []
    for image in images:
        for region in image["regions"]:
            try:
                box = tuple(int(region[name]) for name in ("x", "y", "width", "height"))
            except (KeyError, TypeError, ValueError) as problem:
                rows.append(Bad(str(problem).strip("'"), "missing, or no number", "缺失或不是数字"))
                continue
            number = region.get("image_id", image.get("image_id", image.get("id")))
            rows.append({"image": f"{number}.jpg", "caption": region.get("phrase"), "_box": box})
    return rows


class LineTable(Table):
    """A row a line; of the file only where its lines begin is in memory. Empty lines are no rows."""

    def __init__(self, path: Path, parse: Callable[[str], Any], *, skip: int = 0) -> None:
        super().__init__(path)
        self.parse = parse
        starts, numbers, at = [], [], 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip() and number > skip:
                    starts.append(at)
                    numbers.append(number)
                at += len(line)
        self.starts, self.numbers = np.array(starts, np.int64), np.array(numbers, np.int64)

    def __len__(self) -> int:
        return len(self.starts)

    def item(self, place: int) -> tuple[int, Any]:
        with self.path.open("rb") as file:
            file.seek(int(self.starts[place]))
            line = file.readline()
        try:
            return int(self.numbers[place]), self.parse(line.decode("utf-8-sig").strip("\r\n"))
        except UnicodeDecodeError:
            return int(self.numbers[place]), Bad("row", "not UTF-8", "不是 UTF-8 文本")


def json_line(line: str) -> Any:
    """For :class:`LineTable`: a row of JSONL."""
    try:
        return json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        return Bad("row", f"no JSON ({error})", f"不是 JSON（{error}）")


def cells_of(line: str) -> list[str]:
    """The columns of a line of TSV."""
    return next(csv.reader([line], delimiter="\t", quoting=csv.QUOTE_NONE), [])


def tsv_line(header: list[str] | None) -> Callable[[str], Any]:
    """For :class:`LineTable`: columns by their names, or, without any, a picture and a caption in either order."""

    def row(line: str) -> Any:
        cells = cells_of(line)
        wanted = len(header) if header else 2
        if len(cells) != wanted:
            return Bad("row", f"{len(cells)} columns where {wanted} are meant", f"有 {len(cells)} 列，应为 {wanted} 列")
        if header:
            return dict(zip(header, cells, strict=True))
        picture, caption = cells if _LOOKS_LIKE_PICTURE.search(cells[0]) else reversed(cells)
        return {"image": picture, "caption": caption}

    return row


class TarTable(Table):
    """A WebDataset shard: a picture, ``.txt`` or ``.json`` of one name are a row."""

    anywhere = False

    def __len__(self) -> int:
        return len(tar_samples(str(self.path)))

    def item(self, place: int) -> tuple[int, Any]:
        key, members = tar_samples(str(self.path))[place]
        parts = {name: InFile(self.path, *where, f"{key}.{name}") for name, where in members.items()}
        return place + 1, sample_row(parts, InFile.read)


class FolderTable(Table):
    """Pictures in a folder and those in it, each with its ``.txt`` or ``.json`` beside it."""

    def __len__(self) -> int:
        return len(self._samples)

    @cached_property
    def _samples(self) -> list[Path]:
        kinds = PICTURES | {".txt", ".json"}
        files = (file for file in self.path.rglob("*") if file.suffix.lower() in kinds)
        return sorted({file.with_suffix("") for file in files if not file.name.endswith("_stats.json")})

    def item(self, place: int) -> tuple[int, Any]:
        stem = self._samples[place]
        names = (f"{stem}{ending}" for ending in sorted({*PICTURES, ".txt", ".json"}))
        parts = {Path(name).suffix[1:]: Path(name).absolute() for name in names if Path(name).is_file()}
        return place + 1, sample_row(parts, Path.read_bytes)


def sample_row(parts: Mapping[str, Any], read: Callable[[Any], bytes]) -> Any:
    """The row of a sample: its JSON's fields, its text as the caption, its picture unread."""
    row: dict[str, Any] = {}
    for name, part in sorted(parts.items(), key=lambda pair: (not pair[0].endswith("json"), pair[0])):
        ending = name.rpartition(".")[2]
        if f".{ending}" in PICTURES:
            row["image"] = part
        elif ending == "txt":
            row["caption"] = read(part).decode("utf-8", "replace").strip()
        elif ending == "json":
            said = json_object(read(part))
            if isinstance(said, PromptError):
                return Bad("json", said.en, said.zh)
            row = {k: v for k, v in said.items() if k in TEXT_FIELDS or k in ("url", "URL")}
    return row if {*row} & {*TEXT_FIELDS} else {**row, "caption": None}


class ParquetTable(Table):
    """Columns by their names; a picture is bytes, ``{bytes, path}`` or a path."""

    anywhere = False

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        schema = parquet_file(path).schema_arrow
        self.texts = tuple(name for name in schema.names if name in TEXT_FIELDS)
        self.held: str | None = None
        for name in (name for name in PICTURE_FIELDS if name in schema.names):
            kind = str(schema.field(name).type)
            if kind.startswith(("binary", "large_binary", "struct")):
                self.held = name
            else:
                self.texts += (name,)
            break

    def __len__(self) -> int:
        return int(parquet_file(self.path).metadata.num_rows)

    @property
    def blocks(self) -> list[int]:
        return [len(part) for part in parquet_slices(self.path)]

    def item(self, place: int) -> tuple[int, Any]:
        row = parquet_row(self.path, place, self.texts) if self.texts else {}
        if self.held:
            row[self.held] = InParquet(self.path, place, self.held, f"{self.path.stem}-{place:06}")
        return place + 1, row
