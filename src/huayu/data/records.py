"""Rows of a data file that a user brings: a picture and what is said about it, in the layouts that people have.

A reader yields every row, good or bad, in the file's order: a :class:`Record`, or the :class:`Fault` that says which
row lacks what. Nothing is opened but the data file and, when asked, the headers of the pictures.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huayu.errors import ImageError, ModelError

_REMOTE = re.compile(r"https?://", re.IGNORECASE)
_PICTURE_FIELDS = ("image", "img", "picture", "file_name", "filepath", "image_path")
_CAPTION_FIELDS = ("caption", "text", "title")
_ROLES = {"human": "question", "user": "question", "gpt": "answer", "assistant": "answer"}
_LOOKS_LIKE_PICTURE = re.compile(r"^https?://|\.(png|jpe?g|webp|gif|bmp)$", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\s*<image>\s*")
CAPTION_PROMPTS = ("Describe this picture.", "描述这张图片。")  # what a caption answers, by its language


@dataclass(frozen=True)
class Record:
    """One row: its picture, or None, and the (question, answer) turns about it."""

    row: int
    picture: Path | None
    turns: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Fault:
    """What is wrong with one row. ``row``: from 1, in a JSONL or TSV file the line; ``field``: the one at fault."""

    file: Path
    row: int
    field: str
    en: str
    zh: str

    def __str__(self) -> str:
        return f"{self.file}: row {self.row}: {self.field}: {self.en}"


class _Bad(Exception):
    def __init__(self, field: str, en: str, zh: str) -> None:
        super().__init__(en)
        self.field, self.en, self.zh = field, en, zh


def read_records(
    file: str | Path, *, pictures: str | Path | None = None, open_pictures: bool = True
) -> Iterator[Record | Fault]:
    """Rows of ``file``, or of the ``dataset.json`` in a folder.

    ``.json``: a list, ``.jsonl``: a row a line, of ``{"img", "prompt", "label"}`` (few-shot), ``{"image",
    "conversations"}`` (LLaVA: ``from`` is human or gpt, ``value`` the words; every turn is used) or ``{"image",
    "caption"}``; ``.tsv``: caption and picture, in either order. Pictures are looked for in ``pictures``, beside the
    file and one folder above it. ``open_pictures`` also decodes each one.

    Raises ModelError for a file that cannot be read at all.
    """
    path = Path(file)
    if path.is_dir():
        path = path / "dataset.json"
    folders = (Path(pictures),) if pictures else (path.parent, path.parent.parent)
    for row, item in _items(path):
        try:
            if isinstance(item, _Bad):
                raise item
            yield _record(row, item, folders, open_pictures)
        except _Bad as bad:
            yield Fault(path, row, bad.field, bad.en, bad.zh)


def _items(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"Cannot read {path}: {error}", f"无法读取 {path}：{error}") from error
    kind = path.suffix.lower()
    if kind == ".json":
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise ModelError(f"{path} is no JSON: {error}.", f"{path} 不是 JSON：{error}。") from error
        if not isinstance(rows, list):
            raise ModelError(f"{path} holds no list of rows.", f"{path} 中没有数据行的列表。")
        yield from enumerate(rows, 1)
    elif kind in (".jsonl", ".ndjson"):
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield number, _parsed(line)
    elif kind == ".tsv":
        for number, cells in enumerate(csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE), 1):
            yield number, _caption_of(cells)
    else:
        raise ModelError(
            f"{path.name}: rows are read from .json, .jsonl and .tsv.", f"{path.name}：只能读取 .json、.jsonl 与 .tsv。"
        )


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        return _Bad("row", f"no JSON ({error.msg})", f"不是 JSON（{error.msg}）")


def _caption_of(cells: list[str]) -> Any:
    """The cell that looks like a picture is one, whichever comes first."""
    if len(cells) != 2:
        return _Bad("row", f"{len(cells)} columns where 2 are meant", f"有 {len(cells)} 列，应为 2 列")
    picture, caption = cells if _LOOKS_LIKE_PICTURE.search(cells[0]) else reversed(cells)
    return {"image": picture, "caption": caption}


def _record(row: int, item: Any, folders: tuple[Path, ...], open_pictures: bool) -> Record:
    if not isinstance(item, Mapping):
        raise _Bad("row", "not an object with named fields", "不是带字段名的对象")
    turns = _turns(item)
    name = next((field for field in _PICTURE_FIELDS if field in item), None)
    if name is None:
        if "conversations" in item and not any("<image>" in str(turn) for turn in item["conversations"]):
            return Record(row, None, turns)  # talk without a picture, as LLaVA's data has it
        wanted = "img" if "prompt" in item or "label" in item else "image"
        raise _Bad(wanted, "missing", "缺失")
    return Record(row, _picture(name, item[name], folders, open_pictures), turns)


def _turns(item: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    if "conversations" in item:
        return _conversation(item["conversations"])
    caption = next((field for field in _CAPTION_FIELDS if field in item), None)
    if caption and not {"prompt", "label"} & set(item):
        words = _words(item, caption)
        chinese = bool(re.search(r"[\u3400-\u9fff]", words))
        return ((CAPTION_PROMPTS[chinese], words),)
    return ((_words(item, "prompt"), _words(item, "label")),)


def _words(item: Mapping[str, Any], field: str) -> str:
    if field not in item:
        raise _Bad(field, "missing", "缺失")
    value = item[field]
    if not isinstance(value, str) or not value.strip():
        raise _Bad(field, *(("empty", "为空") if isinstance(value, str) else ("not a text", "不是文本")))
    return value


def _conversation(said: Any) -> tuple[tuple[str, str], ...]:
    """All turns; an odd number of them, or roles that do not take turns, is a fault."""
    field = "conversations"
    if not isinstance(said, list) or not said:
        raise _Bad(field, "no list of turns", "不是对话列表")
    if len(said) % 2:
        raise _Bad(field, f"{len(said)} turns: one is left without its answer", f"共 {len(said)} 句：有一句没有回答")
    words = []
    for number, turn in enumerate(said):
        place = f"{field}[{number}]"
        if not isinstance(turn, Mapping):
            raise _Bad(place, "not an object", "不是对象")
        for key in ("from", "value"):
            if key not in turn:
                raise _Bad(f"{place}.{key}", "missing", "缺失")
        if _ROLES.get(str(turn["from"])) != ("answer" if number % 2 else "question"):
            raise _Bad(f"{place}.from", f"{turn['from']!r} out of turn", f"{turn['from']!r} 的次序不对")
        words.append(_PLACEHOLDER.sub(" ", _words(turn, "value")).strip())
        if not words[-1]:
            raise _Bad(f"{place}.value", "empty", "为空")
    return tuple(zip(words[::2], words[1::2], strict=True))


def _picture(field: str, name: Any, folders: tuple[Path, ...], open_it: bool) -> Path:
    if not isinstance(name, str) or not name.strip():
        raise _Bad(field, "empty", "为空")
    if _REMOTE.match(name):
        raise _Bad(field, f"{name} is remote; fetch it first", f"{name} 在网上；请先下载")
    found = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if found is None:
        raise _Bad(field, f"{name}: no such file", f"{name}：没有这个文件")
    if open_it:
        from huayu.data.pictures import open_picture

        try:
            open_picture(found)
        except ImageError as error:
            raise _Bad(field, f"{name}: {error.en}", f"{name}：{error.zh}") from error
    return found
