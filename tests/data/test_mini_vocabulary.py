"""The vocabulary file of the embedded model covers its world and keeps words whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from huayu.data import mini_vocabulary
from huayu.data.dialogues import dialogue
from huayu.data.layouts import draw_scene
from huayu.models.cpm_bee.vocabulary import BeeVocabulary
from tests.data.sprites_fixture import some_sprites


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    mini_vocabulary.build(path)
    return path


def test_the_file_has_the_published_form(path: Path, tmp_path: Path) -> None:
    lines = path.read_text(encoding="utf-8").split("\n")
    assert lines[:6] == ["<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>"]
    assert lines[6:11] == ["<s>", "</s>", "<root>", "<ans>", "<option>"]
    assert "<eod>" in lines
    assert len(set(lines)) == len(lines) <= 3500
    assert all(lines)
    assert mini_vocabulary.build(tmp_path / "again") == len(lines)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_dialogues_come_back_unchanged_and_need_no_unknown_words(path: Path) -> None:
    vocabulary, rng, sprites = BeeVocabulary.from_file(path), np.random.default_rng(0), some_sprites()
    for number in range(300):
        scene = draw_scene(rng, sprites) if number % 6 else None
        for turn in dialogue(rng, scene, wordings="held" if number % 4 == 0 else "train"):
            for text in (turn.question, turn.answer):
                ids, extra = vocabulary.encode(text)
                assert not extra
                assert vocabulary.decode(ids, extra) == text


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Is there a dog in the picture?", ["Is", " there", " a", " dog", " in", " the", " picture", "?"]),
        ("what is this", ["what", " is", " this"]),
        ("图里有一只狗。", list("图里有一只狗。")),
        ("User: hello\nAI: Hello!", ["User: ", "hello", "\n", "AI: ", "Hello", "!"]),
        ("image", ["image"]),
        ("context", ["context"]),
        ("question", ["question"]),
        ("image_2", ["image_2"]),
    ],
)
def test_words_stay_whole(path: Path, text: str, pieces: list[str]) -> None:
    assert [piece.text for piece in BeeVocabulary.from_file(path).pieces(text)] == pieces


def test_any_printable_ascii_is_known(path: Path) -> None:
    vocabulary = BeeVocabulary.from_file(path)
    text = "".join(chr(code) for code in range(32, 127) if chr(code) != "<")
    assert not any(piece.is_unknown for piece in vocabulary.pieces(text))
