"""Rows of a data file that a user brings: a picture and what is said about it, in the layouts that people have.

A reader yields every row, good or bad, in the file's order: a :class:`Record`, or the :class:`Fault` that says which
row lacks what. Of a file its content says what it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huayu.data.rows import CAPTION_FIELDS, CAPTION_PROMPTS, PICTURE_FIELDS, Bad, Fault, Record, record_of
from huayu.data.tables import (
    FolderTable,
    LineTable,
    ListTable,
    ParquetTable,
    Table,
    TarTable,
    cells_of,
    coco_rows,
    json_line,
    region_rows,
    tsv_line,
)
from huayu.errors import ModelError, PromptError

__all__ = ["CAPTION_PROMPTS", "Fault", "Reader", "Record", "open_tables", "read_records"]

_LINES = (".jsonl", ".ndjson")
_SHARDS = (".tar", ".parquet")


class Reader:
    """Rows of a table by their position. ``check``: pictures are opened, too, so that a bad one is a fault.

    Names of pictures are looked for in ``pictures``; else beside the file, one folder above it, and where the layout
    has them.
    """

    def __init__(self, table: Table, pictures: str | Path | None = None, *, check: bool = False) -> None:
        self.table, self.check = table, check
        near = [Path(pictures)] if pictures else [table.path.parent, table.path.parent.parent]
        if table.path.is_dir():
            near.insert(0, table.path)
        self.folders = [*near, *(folder / name for folder in near for name in table.inside)]

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, place: int) -> Record | Fault:
        row, item = self.table.item(place)
        try:
            return record_of(row, item, self.folders, check=self.check)
        except Bad as bad:
            return Fault(self.table.path, row, bad.field, bad.en, bad.zh)


def read_records(
    file: str | Path, *, pictures: str | Path | None = None, open_pictures: bool = True
) -> Iterator[Record | Fault]:
    """All rows of ``file``; see :func:`open_tables` and :class:`Reader`. ``open_pictures`` also decodes each one.

    Raises ModelError for a file that cannot be read at all.
    """
    for table in open_tables(file):
        reader = Reader(table, pictures, check=open_pictures)
        yield from (reader[place] for place in range(len(reader)))


def open_tables(file: str | Path) -> list[Table]:
    """What is in a file, or in a folder: of its ``dataset.json``, ``metadata.jsonl``, shards, or pictures with texts.

    Lists in JSON, JSONL and Parquet of ``{"img", "prompt", "label"}`` (few-shot), ``{"image", "conversations"}``
    (LLaVA: ``from`` is human or gpt, ``value`` the words; every turn is used) or ``{"image", "caption"}``; TSV of a
    picture and a caption; COCO captions; Visual Genome's regions; WebDataset; what ``datasets`` saved.
    Raises ModelError.
    """
    path = Path(file)
    try:
        tables = _folder(path) if path.is_dir() else [_file(path)]
        for table in tables:
            len(table)  # what is damaged says so now
    except PromptError as problem:
        raise ModelError(problem.en, problem.zh) from problem
    except OSError as error:
        raise ModelError(f"Cannot read {path}: {error}", f"无法读取 {path}：{error}") from error
    return tables


def _folder(path: Path) -> list[Table]:
    for name in ("dataset.json", "metadata.jsonl"):
        if (path / name).is_file():
            return [_file(path / name)]
    if any((path / name).is_file() for name in ("state.json", "dataset_dict.json", "metadata.csv")):
        return [_datasets(path)]
    for folder in (path, path / "data"):  # the second as a copy of a hub's repository has it
        if shards := [file for file in sorted(folder.glob("*")) if file.suffix in _SHARDS and file.is_file()]:
            train = [file for file in shards if file.name.startswith("train")] if folder != path else []
            # Beside a tar img2dataset keeps a Parquet file of its texts.
            return [_file(f) for f in train or shards if f.suffix == ".tar" or f.with_suffix(".tar") not in shards]
    if (path / "README.md").is_file():
        return [_datasets(path)]
    return [FolderTable(path)]


def _datasets(path: Path) -> Table:
    from huayu.data.hf_datasets import HfTable

    return HfTable(path)


def _file(path: Path) -> Table:
    with path.open("rb") as file:
        head = file.read(512)
        first = (head + file.readline()).removeprefix(b"\xef\xbb\xbf").lstrip()
    kind = path.suffix.lower()
    if head[:4] == b"PAR1":
        return ParquetTable(path)
    if head[257:262] == b"ustar" or kind == ".tar":
        return TarTable(path)
    line = first.split(b"\n")[0].decode("utf-8", "replace").strip("\r")
    if kind in _LINES and not (line.strip() == "[" or _is_whole(line)):
        return LineTable(path, json_line)
    if first[:1] in (b"[", b"{") or kind == ".json":
        return _json(path, line)
    if kind == ".tsv" or "\t" in line:
        cells = cells_of(line)
        named = bool(cells) and {*cells} & {*PICTURE_FIELDS} and {*cells} & {*CAPTION_FIELDS}
        return LineTable(path, tsv_line(cells if named else None), skip=1 if named else 0)
    raise ModelError(
        f"{path.name} is none of: JSON, JSONL, TSV, WebDataset (.tar), Parquet.",
        f"{path.name} 不是 JSON、JSONL、TSV、WebDataset（.tar）或 Parquet 文件。",
    )


def _is_whole(line: str) -> bool:
    """A whole COCO file in one line."""
    return line.startswith("{") and '"annotations"' in line and '"images"' in line


def _json(path: Path, line: str) -> Table:
    try:
        whole = json.loads(path.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ModelError(f"Cannot read {path}: {error}", f"无法读取 {path}：{error}") from error
    except json.JSONDecodeError as error:
        if not isinstance(json_line(line), Bad):
            return LineTable(path, json_line)  # a row a line, whatever its name
        raise ModelError(f"{path} is no JSON: {error}.", f"{path} 不是 JSON：{error}。") from error
    if isinstance(whole, Mapping) and {"images", "annotations"} <= whole.keys():
        split = path.stem.removeprefix("captions_")
        return ListTable(path, coco_rows(whole), ("images", split))
    if not isinstance(whole, list):
        raise ModelError(f"{path} holds no list of rows.", f"{path} 中没有数据行的列表。")
    if whole and all(_is_region_list(image) for image in whole):
        return ListTable(path, region_rows(whole), ("images", "VG_100K", "VG_100K_2"))
    return ListTable(path, whole)


def _is_region_list(image: Any) -> bool:
    return isinstance(image, Mapping) and isinstance(image.get("regions"), list)
