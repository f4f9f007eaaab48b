"""Plain texts that a user brings → pieces to learn."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from huayu.errors import ModelError

_FIELDS = ("text", "content")
_LINES, _PAGES = (".jsonl", ".ndjson"), (".txt", ".md")
_END = re.compile(r"[。！？!?；;.]\s*|\s+")


def read_texts(path: str | Path) -> Iterator[str]:
    """Texts of a file or of all files in a folder, by name: ``.jsonl`` with ``text`` or ``content``, a row each;
    ``.txt`` and ``.md``, parted by empty lines. Raises ModelError, for a bad row with its number."""
    where = Path(path)
    if not where.exists():
        raise ModelError(f"There is no {where}.", f"没有 {where}。")
    kinds = (*_LINES, *_PAGES)
    files = sorted(file for file in where.rglob("*") if file.suffix in kinds) if where.is_dir() else [where]
    for file in files:
        if file.suffix not in kinds:
            known = ", ".join(kinds)
            raise ModelError(f"{file.name}: texts are read from {known}.", f"{file.name}：只能读取 {known}。")
        try:
            found = list(_rows(file)) if file.suffix in _LINES else re.split(r"\n\s*\n", file.read_text("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise ModelError(f"{file} is not UTF-8: {error}.", f"{file} 不是 UTF-8：{error}。") from error
        yield from (text.strip() for text in found if text.strip())


def _rows(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                text = next(row[field] for field in _FIELDS if field in row)
            except (json.JSONDecodeError, StopIteration, TypeError) as error:
                raise ModelError(
                    f"{file}: row {number}: no JSON with a text.", f"{file}：第 {number} 行：不是带 text 的 JSON。"
                ) from error
            yield str(text)


def pieces(text: str, length: int) -> Iterator[str]:
    """Parts of at most ``length`` characters; cut behind a sentence or a word where one ends in the second half."""
    while len(text) > length:
        ends = [match.end() for match in _END.finditer(text, length // 2, length)]
        cut = ends[-1] if ends else length
        yield text[:cut].strip()
        text = text[cut:]
    if text.strip():
        yield text.strip()
