"""What was said so far and which pictures were shown: immutable, and saved as JSON."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from huayu.checkpoints.atomic import write_text
from huayu.data.pictures import decode_picture, open_picture, read_bytes
from huayu.errors import HuayuError, ImageError, PromptError
from huayu.runtime.language import language_of

PictureSource = str | Path | bytes | Image.Image
_FORMAT = "huayu.conversation"
_VERSION = 1


class Picture:
    """One picture: RGB pixels, and ``key``, their SHA-256, by which a model remembers what it saw.

    A file's bytes are kept as they came, its metadata with them, so that a saved conversation is small and exact.
    """

    def __init__(self, image: Image.Image, data: bytes | None = None) -> None:
        self.image = image
        self._data = data

    @classmethod
    def open(cls, source: PictureSource, *, allow_url: bool = True) -> Picture:
        """From anything :func:`huayu.data.pictures.open_picture` takes. Raises ImageError."""
        if isinstance(source, Image.Image):
            return cls(open_picture(source))
        data = read_bytes(source, allow_url=allow_url)
        return cls(decode_picture(data), data)

    @cached_property
    def key(self) -> str:
        """SHA-256 (hex) of the size and the RGB pixels."""
        width, height = self.image.size
        return hashlib.sha256(f"{width}x{height}:".encode() + self.image.tobytes()).hexdigest()

    @cached_property
    def data(self) -> bytes:
        """The bytes of the file it came from, or of a PNG."""
        if self._data is not None:
            return self._data
        buffer = io.BytesIO()
        self.image.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, Picture) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"Picture({self.image.width}×{self.image.height}, {self.key[:8]})"


@dataclass(frozen=True)
class Turn:
    """A question, its answer, the answer's language (``"zh"`` or ``"en"``), and how many pictures it brought."""

    question: str
    answer: str
    language: str
    num_pictures: int = 0


@dataclass(frozen=True)
class Conversation:
    """Turns and pictures so far. Every answer gives a new one; nothing changes an old one.

    ``system``: what the model is told before all turns; it never falls out of a full context.
    A model reads each picture once, however many turns there are; the reading itself is not part of the JSON.
    """

    turns: tuple[Turn, ...] = ()
    pictures: tuple[Picture, ...] = ()
    system: str = ""

    def window(self, dropped: int) -> tuple[Turn, ...]:
        """What a model is shown without the oldest ``dropped`` turns.

        Models without a system role read ``system`` as a turn that was agreed to: so they go on answering as they do.
        """
        if not self.system:
            return self.turns[dropped:]
        language = language_of(self.system)
        return (Turn(self.system, "好的。" if language == "zh" else "OK.", language), *self.turns[dropped:])

    def with_pictures(self, pictures: Sequence[Picture]) -> Conversation:
        """The same turns, with ``pictures`` shown now; one that was shown before is not added again."""
        new = tuple(dict.fromkeys(picture for picture in pictures if picture not in self.pictures))
        return replace(self, pictures=self.pictures + new)

    def with_turn(self, turn: Turn) -> Conversation:
        """One turn more."""
        return replace(self, turns=(*self.turns, turn))

    def to_json(self) -> str:
        """JSON text, pictures included (base64 of the file as it came, or PNG)."""
        turns = [
            {"question": t.question, "answer": t.answer, "language": t.language, "pictures": t.num_pictures}
            for t in self.turns
        ]
        pictures = [{"sha256": p.key, "data": base64.b64encode(p.data).decode("ascii")} for p in self.pictures]
        record = {"format": _FORMAT, "version": _VERSION, "turns": turns, "pictures": pictures}
        if self.system:
            record["system"] = self.system
        return json.dumps(record, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> Conversation:
        """Reads what :meth:`to_json` wrote. Raises PromptError for anything else, ImageError for a broken picture."""
        try:
            record = json.loads(text)
            if record["format"] != _FORMAT or record["version"] != _VERSION:
                raise _foreign(f"{record['format']} {record['version']}")
            turns = tuple(_turn(entry) for entry in record["turns"])
            pictures = tuple(_picture(entry) for entry in record["pictures"])
            system = record.get("system", "")
            if not isinstance(system, str):
                raise TypeError("system is not a text")
        except HuayuError:
            raise
        except (ValueError, KeyError, TypeError, binascii.Error) as problem:
            raise _foreign(str(problem)) from problem
        return cls(turns, pictures, system)

    def save(self, path: str | Path) -> None:
        """Write the JSON aside, then put it in place: a full disk leaves an old file as it was."""
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Conversation:
        """Read a saved conversation. Raises PromptError when it is missing or not one."""
        try:
            text = Path(path).read_bytes()
        except OSError as problem:
            raise PromptError(
                f"The conversation {path} cannot be read: {problem}.", f"无法读取对话 {path}：{problem}。"
            ) from problem
        return cls.from_json(text)


def _turn(entry: dict[str, Any]) -> Turn:
    turn = Turn(entry["question"], entry["answer"], entry["language"], entry["pictures"])
    texts = (turn.question, turn.answer, turn.language)
    if not all(isinstance(text, str) for text in texts) or not isinstance(turn.num_pictures, int):
        raise TypeError(f"a turn is not made of texts: {entry!r:.80}")
    return turn


def _picture(entry: dict[str, Any]) -> Picture:
    picture = Picture.open(base64.b64decode(entry["data"], validate=True))
    if picture.key != entry["sha256"]:
        raise ImageError("A picture in the conversation is not the one that was saved.", "对话中的图片与保存时不一致。")
    return picture


def _foreign(problem: str) -> PromptError:
    return PromptError(f"This is not a saved conversation ({problem}).", f"这不是保存的对话（{problem}）。")
