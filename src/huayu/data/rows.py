"""One row of a data file that a user brings → a :class:`Record`, or the :class:`Fault` that says what it lacks."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huayu.data.pictures import MIN_SIDE, Held, open_picture
from huayu.errors import ImageError
from huayu.runtime.language import language_of

Picture = Path | Held

# The first that is there counts; the last two only tell of a picture that was never fetched.
PICTURE_FIELDS = (
    "image", "img", "picture", "jpg", "jpeg", "png", "webp", "file_name", "filepath", "image_path", "url", "URL",
)  # fmt: skip
CAPTION_FIELDS = ("caption", "text", "title", "TEXT")
TEXT_FIELDS = (*CAPTION_FIELDS, "prompt", "label", "conversations")
CAPTION_PROMPTS = ("Describe this picture.", "描述这张图片。")  # what a caption answers, by its language
_REMOTE = re.compile(r"https?://", re.IGNORECASE)
_ROLES = {"human": "question", "user": "question", "gpt": "answer", "assistant": "answer"}
_PLACEHOLDER = re.compile(r"\s*<image>\s*")


@dataclass(frozen=True)
class Record:
    """One row: its picture, or None, and the (question, answer) turns about it."""

    row: int
    picture: Picture | None
    turns: tuple[tuple[str, str], ...]

    @property
    def caption(self) -> str | None:
        """What it says of the picture, when that is all it says."""
        return self.turns[0][1] if len(self.turns) == 1 and self.turns[0][0] in CAPTION_PROMPTS else None


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


@dataclass(frozen=True)
class Part(Held):
    """A part of a picture; ``box``: left, top, width, height in pixels, cut to what there is."""

    picture: Picture
    box: tuple[int, int, int, int]

    @property
    def name(self) -> str:  # type: ignore[override]
        whole = Path(self.picture.name)
        return f"{whole.stem}-{'-'.join(map(str, self.box))}.png"

    def read(self) -> bytes:
        image, (left, top, width, height) = open_picture(self.picture), self.box
        edges = max(0, left), max(0, top), min(image.width, left + width), min(image.height, top + height)
        if edges[2] - edges[0] < MIN_SIDE or edges[3] - edges[1] < MIN_SIDE:
            raise ImageError("The region has no pixels.", "该区域内没有像素。")
        data = io.BytesIO()
        image.crop(edges).save(data, "PNG", compress_level=1)
        return data.getvalue()


class Bad(Exception):
    """What is wrong with a row, before it is known which row it is."""

    def __init__(self, field: str, en: str, zh: str) -> None:
        super().__init__(en)
        self.field, self.en, self.zh = field, en, zh


def record_of(row: int, item: Any, folders: Sequence[Path], *, check: bool) -> Record:
    """The row as it is read from a file; pictures that are names are looked for in ``folders``.

    ``check``: the picture is opened, too. Raises Bad.
    """
    if isinstance(item, Bad):
        raise item
    if not isinstance(item, Mapping):
        raise Bad("row", "not an object with named fields", "不是带字段名的对象")
    turns = _turns(item)
    name = next((field for field in PICTURE_FIELDS if item.get(field) is not None), None)
    if name is None:
        if "conversations" in item and not any("<image>" in str(turn) for turn in item["conversations"]):
            return Record(row, None, turns)  # talk without a picture, as LLaVA's data has it
        present = next((field for field in PICTURE_FIELDS if field in item), None)
        wanted = "img" if "prompt" in item or "label" in item else "image"
        raise Bad(present or wanted, *(("empty", "为空") if present else ("missing", "缺失")))
    found = _picture(name, item[name], folders)
    if "_box" in item:
        found = Part(found, item["_box"])
    if check:
        _open(name, found)
    return Record(row, found, turns)


def caption_turns(caption: str) -> tuple[tuple[str, str], ...]:
    """A caption as the answer to being asked for one, in its language."""
    return ((CAPTION_PROMPTS[language_of(caption) == "zh"], caption),)


def _turns(item: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    if item.get("conversations") is not None:
        return _conversation(item["conversations"])
    caption = next((field for field in CAPTION_FIELDS if field in item), None)
    if caption and not {"prompt", "label"} & set(item):
        return caption_turns(_words(item, caption))
    return ((_words(item, "prompt"), _words(item, "label")),)


def _words(item: Mapping[str, Any], field: str) -> str:
    if field not in item:
        raise Bad(field, "missing", "缺失")
    value = item[field]
    if not isinstance(value, str) or not value.strip():
        raise Bad(field, *(("not a text", "不是文本") if value and not isinstance(value, str) else ("empty", "为空")))
    return value


def _conversation(said: Any) -> tuple[tuple[str, str], ...]:
    """All turns; an odd number of them, or roles that do not take turns, is a fault."""
    field = "conversations"
    if not isinstance(said, list) or not said:
        raise Bad(field, "no list of turns", "不是对话列表")
    if len(said) % 2:
        raise Bad(field, f"{len(said)} turns: one is left without its answer", f"共 {len(said)} 句：有一句没有回答")
    words = []
    for number, turn in enumerate(said):
        place = f"{field}[{number}]"
        if not isinstance(turn, Mapping):
            raise Bad(place, "not an object", "不是对象")
        for key in ("from", "value"):
            if key not in turn:
                raise Bad(f"{place}.{key}", "missing", "缺失")
        if _ROLES.get(str(turn["from"])) != ("answer" if number % 2 else "question"):
            raise Bad(f"{place}.from", f"{turn['from']!r} out of turn", f"{turn['from']!r} 的次序不对")
        words.append(_PLACEHOLDER.sub(" ", _words(turn, "value")).strip())
        if not words[-1]:
            raise Bad(f"{place}.value", "empty", "为空")
    return tuple(zip(words[::2], words[1::2], strict=True))


def _picture(field: str, value: Any, folders: Sequence[Path]) -> Picture:
    if isinstance(value, Mapping):  # as the datasets library keeps pictures
        value = value.get("bytes") or value.get("path")
    if isinstance(value, Held):
        return value
    if isinstance(value, Path) and value.is_absolute():
        return value
    if not isinstance(value, str | Path) or not str(value).strip():
        raise Bad(field, "empty", "为空")
    name = str(value)
    if _REMOTE.match(name):
        raise Bad(field, f"{name} is remote; fetch it first", f"{name} 在网上；请先下载")
    found = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if found is None:
        raise Bad(field, f"{name}: no such file", f"{name}：没有这个文件")
    return found


def _open(field: str, picture: Picture) -> None:
    try:
        open_picture(picture)
    except ImageError as error:
        raise Bad(field, f"{picture.name}: {error.en}", f"{picture.name}：{error.zh}") from error
