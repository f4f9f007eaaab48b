"""Conversations: immutable, saved and loaded as JSON, each picture once."""

from __future__ import annotations

import io
import json
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from PIL import Image

from huayu.chat.conversation import Conversation, Picture, Turn
from huayu.errors import ImageError, PromptError

RED, BLUE = Image.new("RGB", (6, 4), "red"), Image.new("RGB", (6, 4), "blue")


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


def _some() -> Conversation:
    shown = Conversation().with_pictures([Picture.open(RED), Picture.open(_jpeg(BLUE))])
    return shown.with_turn(Turn("图里是什么？\n<ans>", 'a "red" <box>', "zh", 2)).with_turn(Turn("And?", "", "en"))


def test_saved_and_loaded_are_equal(tmp_path: Path) -> None:
    conversation = _some()
    assert Conversation.from_json(conversation.to_json()) == conversation
    conversation.save(tmp_path / "对话.json")
    assert Conversation.load(tmp_path / "对话.json") == conversation
    again = Conversation.load(tmp_path / "对话.json")
    assert again.to_json() == conversation.to_json()
    assert [p.image.tobytes() for p in again.pictures] == [p.image.tobytes() for p in conversation.pictures]


def test_a_file_is_kept_as_it_came() -> None:
    data = _jpeg(BLUE)
    assert Picture.open(data).data == data
    assert Picture.open(RED).data.startswith(b"\x89PNG")


def test_nothing_changes_an_old_one() -> None:
    old = Conversation()
    new = old.with_pictures([Picture.open(RED)]).with_turn(Turn("a", "b", "en", 1))
    assert old == Conversation()
    assert (len(new.turns), len(new.pictures)) == (1, 1)
    with pytest.raises(FrozenInstanceError):
        new.turns = ()


def test_the_same_pixels_are_one_picture() -> None:
    first = Conversation().with_pictures([Picture.open(RED), Picture.open(RED)])
    assert len(first.pictures) == 1
    assert len(first.with_pictures([Picture.open(RED.copy()), Picture.open(BLUE)]).pictures) == 2
    assert Picture.open(RED) != Picture.open(RED.resize((4, 6)))


def _changed(**changes: object) -> str:
    return json.dumps({**json.loads(_some().to_json()), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "not json",
        "{}",
        _changed(format="something"),
        _changed(version=99),
        _changed(turns=[{"question": 1, "answer": "", "language": "en", "pictures": 0}]),
        _changed(turns=[{"question": "only"}]),
        _changed(pictures=[{"sha256": "x", "data": "***"}]),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(PromptError, match="not a saved conversation"):
        Conversation.from_json(text)


def test_a_changed_picture_is_refused() -> None:
    record = json.loads(_some().to_json())
    record["pictures"][0]["data"] = record["pictures"][1]["data"]
    with pytest.raises(ImageError, match="not the one"):
        Conversation.from_json(json.dumps(record))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="cannot be read"):
        Conversation.load(tmp_path / "none.json")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "talk.json"
    _some().save(file)
    before = file.read_bytes()

    def full(self: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(Exception, match="disk is full"):
        Conversation().save(file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
