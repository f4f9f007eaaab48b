"""Folders of diffusers: which files of a repository are taken, and what is missing of a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from huayu.checkpoints import hub, pipelines
from huayu.checkpoints.find import locate
from huayu.errors import CheckpointError, ModelError

LISTING = [
    ".gitattributes",
    "README.md",
    "model_index.json",
    "v2.safetensors",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/pytorch_model.bin",
    "unet/config.json",
    "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
    "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
    "unet/diffusion_pytorch_model.safetensors.index.json",
    "unet/diffusion_pytorch_model.fp16.safetensors.index.json",
    "unet/evil.py",
    "vae/config.json",
    "vae/diffusion_pytorch_model.bin",
    "vae/diffusion_flax_model.msgpack",
]


def test_each_part_in_one_format_without_code_or_variants() -> None:
    left = {name for name in LISTING if name not in pipelines.choose(LISTING)}
    assert left == {
        ".gitattributes",
        "README.md",
        "v2.safetensors",
        "text_encoder/model.fp16.safetensors",
        "text_encoder/pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors.index.json",
        "unet/evil.py",
        "vae/diffusion_flax_model.msgpack",
    }
    assert hub.choose(LISTING) == pipelines.choose(LISTING)
    assert hub.choose(LISTING, ["v2.safetensors"]) == ["README.md", "model_index.json", "v2.safetensors"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    parts = {"unet": ["diffusers", "UNet2DConditionModel"], "safety_checker": [None, None]}
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **parts}))
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{}")
    return tmp_path


def test_what_is_missing(folder: Path) -> None:
    assert pipelines.missing(folder) is None
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    assert pipelines.missing(folder) == "unet/one.safetensors"
    with pytest.raises(CheckpointError, match="unet/one.safetensors is missing"):
        locate(folder, kind="paint")
    (folder / "unet" / "one.safetensors").touch()
    assert pipelines.missing(folder) is None


def test_it_is_found_for_painting_only(folder: Path) -> None:
    source = locate(folder, kind="paint")
    assert (source.path, source.form, source.family) == (folder, "folder", None)
    with pytest.raises(ModelError, match="not a model for chat"):
        locate(folder)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "VisCPMPaintPipeline"}))
    assert locate(folder, kind="paint").family == "viscpm_paint"
    (folder / "model_index.json").write_text("[]")
    with pytest.raises(CheckpointError, match="damaged"):
        locate(folder, kind="paint")


def test_from_the_hubs_cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    snapshot = tmp_path / "hub" / "models--some--painter" / "snapshots" / "main"
    shutil.copytree(folder, snapshot, ignore=shutil.ignore_patterns("hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert locate("some/painter", kind="paint").path == snapshot
    shutil.rmtree(snapshot / "unet")
    with pytest.raises(CheckpointError, match="unet is missing"):
        locate("some/painter", kind="paint")
