"""The vocabulary of the small VisualGLM: its world's words are whole, everything else can still be spelled."""

from __future__ import annotations

from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor

from huayu.data import mini_sentencepiece, world


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceProcessor:
    path: Path = tmp_path_factory.mktemp("words") / "ice_text.model"
    count = mini_sentencepiece.build(path)
    pieces = SentencePieceProcessor(model_file=str(path))
    assert pieces.vocab_size() == count
    return pieces


def test_english_names_are_whole_words_and_chinese_ones_single_characters(made: SentencePieceProcessor) -> None:
    for concept in world.CONCEPTS:
        if concept.en == "T-shirt":  # T恤
            continue
        assert made.encode(concept.en, out_type=str) == [f"\u2581{word}" for word in concept.en.split()]
        assert made.encode(concept.zh, out_type=str) == ["\u2581", *concept.zh]


def test_a_question_begins_without_a_space(made: SentencePieceProcessor) -> None:
    assert made.encode("Q:What is this?", out_type=str)[2:] == ["What", "\u2581is", "\u2581this", "?"]


@pytest.mark.parametrize("text", ["饕餮 🐉 ñandú", "图里有什么？", "A zebra-like thing: 12,345!"])
def test_any_text_comes_back(made: SentencePieceProcessor, text: str) -> None:
    ids = made.encode(text)
    assert made.unk_id() not in ids
    assert made.decode(ids) == text
