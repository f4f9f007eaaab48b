"""Rankers with tiny random weights of the real classes, and choosing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from PIL import Image

from huayu.errors import CheckpointError, ModelError
from huayu.ranking import ChineseClipRanker, ClipRanker, best_of, choose_ranker, open_ranker
from tests.ranking.tiny import SIZES, SQUARE, VISION

PICTURES = [Image.new("RGB", (30, 20), colour) for colour in ("red", "green", "blue", "white")]


@pytest.fixture(scope="module")
def chinese(tiny_chinese_clip: Path) -> Path:
    return tiny_chinese_clip


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    pieces = ["<|startoftext|>", "<|endoftext|>", *(f"{letter}</w>" for letter in "abcdelpr"), *"abcdelpr"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    text = {**SIZES, "vocab_size": len(vocab), "max_position_embeddings": 12, "eos_token_id": 1, "bos_token_id": 0}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=8))
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    model.logit_scale.data.fill_(2.0)
    model.save_pretrained(folder)
    CLIPTokenizer(vocab=vocab, merges=[]).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=SQUARE).save_pretrained(folder)
    return folder


def test_chinese_scores_are_the_published_diagonal(chinese: Path) -> None:
    """As published: the prompt once for each picture, scores on the diagonal of logits_per_image."""
    ranker = ChineseClipRanker(chinese)
    scores = ranker("一个红苹果", PICTURES)
    text = ranker.tokenizer(["一个红苹果"] * 4, return_tensors="pt")
    assert ranker.tokenizer.unk_token_id not in text["input_ids"]
    pixels = ranker.processor(images=PICTURES, return_tensors="pt")
    with torch.inference_mode():
        logits = ranker.model(**text, **pixels).logits_per_image
    torch.testing.assert_close(torch.tensor(scores), logits.diagonal())
    assert len({round(score, 3) for score in scores}) == 4


@pytest.mark.parametrize("kind", ["chinese", "english"])
def test_scores_depend_on_picture_and_prompt_alone(kind: str, request: pytest.FixtureRequest) -> None:
    ranker = open_ranker(request.getfixturevalue(kind))
    prompt, other = ("红苹果", "蓝天空") if kind == "chinese" else ("red apple", "blade")
    scores = ranker(prompt, PICTURES)
    assert isinstance(ranker, ChineseClipRanker if kind == "chinese" else ClipRanker)
    assert ranker(prompt, PICTURES[::-1]) == pytest.approx(scores[::-1], abs=1e-4)
    assert ranker(prompt, PICTURES[:1]) == pytest.approx(scores[:1], abs=1e-4)
    assert ranker(other, PICTURES) != pytest.approx(scores, abs=1e-3)
    assert ranker(prompt, []) == []
    assert len(ranker(prompt * 20, PICTURES)) == 4  # longer than its context: cut


def test_the_best_of_each_group_in_order() -> None:
    assert best_of([1.0, 3.0, 2.0, 3.0, 0.5, 0.1, 0.2, 0.4], 4) == [1, 4]
    assert best_of([5.0, 6.0], 1) == [0, 1]
    assert best_of([], 4) == []
    with pytest.raises(ValueError, match="groups of 4"):
        best_of([1.0, 2.0, 3.0], 4)


def test_choosing_by_the_language(caplog: pytest.LogCaptureFixture) -> None:
    zh, en = (lambda prompt, images: [1.0]), (lambda prompt, images: [2.0])
    assert choose_ranker("一个 red apple", zh, en) is zh
    assert choose_ranker("a red apple", zh, en) is en
    assert not caplog.records
    with caplog.at_level(logging.WARNING, "huayu"):
        assert choose_ranker("a red apple", zh=zh) is None
    assert "no ranker for English" in caplog.text


def test_what_is_not_a_ranker(chinese: Path, english: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="chinese_clip"):
        ClipRanker(chinese)
    with pytest.raises(ModelError, match="clip"):
        ChineseClipRanker(english)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises((ModelError, CheckpointError)):
        open_ranker(tmp_path)
    with pytest.raises(CheckpointError, match="no file or folder"):
        open_ranker(tmp_path / "nowhere")


def test_a_missing_weight_is_named(english: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(english, tmp_path / "clip")
    tensors = load_file(folder / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"visual_projection\.weight"):
        ClipRanker(folder)
