"""A file of prompts: one a line, or JSON objects; what is finished in the output folder is not painted again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from huayu.errors import HuayuError, OptionError, PromptError
from huayu.paint.options import PaintOptions, with_pictures
from huayu.paint.result import numbered

_FIELDS = frozenset(field.name for field in fields(PaintOptions))


@dataclass(frozen=True)
class Request:
    """One prompt with its options; ``number`` of its line; ``paths``: where its pictures go, if that is known."""

    number: int
    prompt: str
    options: PaintOptions
    paths: tuple[Path, ...] = ()

    def missing(self) -> bool:
        """Whether one of its files is not there, or holds another prompt or seed than the line asks for."""
        return not all(self._finished(place, path) for place, path in enumerate(self.paths))

    def _finished(self, place: int, path: Path) -> bool:
        from huayu.labelling import read_record

        if not path.is_file():
            return False
        try:
            record = read_record(path)
        except HuayuError:
            return False
        same = (record.prompt, record.negative_prompt) == (self.prompt, self.options.negative)
        chosen = self.options.seed is None or self.options.exact or self.options.candidates > 1
        return same and (chosen or record.seed == (self.options.seed or 0) + place)


def read_requests(file: str | Path, folder: str | Path, options: PaintOptions) -> list[Request]:
    """All lines of ``file``; empty ones are skipped. Files are named by line number: ``0007.png``, ``0007-1.png`` ….

    A line that begins with ``{`` is a JSON object with ``prompt`` and fields of :class:`PaintOptions`, laid over
    ``options``; any other line is a prompt. Raises PromptError, OptionError, ImageError, each with the line's number.
    """
    try:
        lines = Path(file).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise PromptError(
            f"The file of prompts {file} cannot be read: {problem}.", f"无法读取提示词文件 {file}：{problem}。"
        ) from problem
    requests = list(_requests(lines, Path(folder), options))
    if not requests:
        raise PromptError(f"{file} holds no prompt.", f"{file} 中没有提示词。")
    return requests


def _requests(lines: list[str], folder: Path, options: PaintOptions) -> Iterator[Request]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            prompt, mine = _read(line.strip(), options)
        except HuayuError as error:
            raise type(error)(f"Line {number}: {error.en}", f"第 {number} 行：{error.zh}") from error
        yield Request(number, prompt, mine, tuple(numbered(folder / f"{number:04}.png", mine.n)))


def _read(line: str, options: PaintOptions) -> tuple[str, PaintOptions]:
    if not line.startswith("{"):
        return line, options
    try:
        row = json.loads(line)
    except ValueError as problem:
        raise PromptError(f"it is not JSON ({problem}).", f"不是 JSON（{problem}）。") from problem
    return read_row(row, options)


def read_row(row: dict[str, Any], options: PaintOptions) -> tuple[str, PaintOptions]:
    """``prompt`` and the fields of :class:`PaintOptions`, laid over ``options``; pictures are read.

    Raises PromptError, OptionError, ImageError.
    """
    row = dict(row)
    prompt = row.pop("prompt", None)
    if not isinstance(prompt, str) or not prompt.strip():
        raise PromptError("prompt is missing.", "缺少 prompt。")
    if unknown := sorted(set(row) - _FIELDS):
        raise OptionError(f"unknown: {', '.join(unknown)}.", f"未知字段：{', '.join(unknown)}。")
    if isinstance(row.get("size"), list):
        row["size"] = tuple(row["size"])
    return prompt, with_pictures(replace(options, **row))
