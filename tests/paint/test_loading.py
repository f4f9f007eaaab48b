"""Opening a model that paints: every form, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import huayu
from huayu.errors import CheckpointError, ModelError, OptionError, PromptError
from huayu.paint import Painter, load_paint

WORDS = "a red apple"


@pytest.fixture(scope="module")
def library(diffusers_folder: Path) -> Painter:
    from huayu.safety import default_guard

    return load_paint(diffusers_folder, device="cpu", safety=default_guard(picture=False))


def test_any_pipeline_of_diffusers_paints(library: Painter, diffusers_folder: Path) -> None:
    from diffusers import StableDiffusionPipeline

    result = library.paint(WORDS, n=2, seed=1, steps=2, negative="blue", guidance=3)
    assert library.name == str(diffusers_folder)
    assert huayu.load_paint is load_paint
    assert (library.backend.facts.size, library.backend.facts.steps) == ((16, 16), 50)
    import torch

    plain = StableDiffusionPipeline.from_pretrained(diffusers_folder)
    plain.set_progress_bar_config(disable=True)
    expected = plain(
        WORDS,
        negative_prompt="blue",
        num_inference_steps=2,
        guidance_scale=3,
        generator=torch.Generator().manual_seed(2),
    ).images[0]
    assert result.images[1].tobytes() == expected.tobytes()
    assert any(verdict.allowed for verdict in result.verdicts)


def test_its_kin_start_from_a_picture(library: Painter) -> None:
    photo = Image.new("RGB", (40, 20), "red")
    mask = Image.new("L", (40, 20), 0)
    from_picture = library.paint(WORDS, seed=1, steps=4, image=photo, strength=0.5)
    inside = library.paint(WORDS, seed=1, steps=4, image=photo, mask=mask)
    both = list(library.stream(WORDS, n=2, seed=0, steps=4, image=photo, strength=0.5, batch_size=2))
    assert both[-1].image.tobytes() == from_picture.images[0].tobytes()  # type: ignore[union-attr]
    assert [(event.done, event.total) for event in both[:-2]] == [(1, 4), (2, 4), (3, 4), (4, 4)]  # type: ignore
    assert from_picture.images[0].size == inside.images[0].size == (24, 8)
    assert from_picture.images[0].tobytes() != inside.images[0].tobytes()


def test_schedulers_come_and_go(library: Painter) -> None:
    own, other, again = (
        library.paint(WORDS, seed=1, steps=3, scheduler=s).images[0].tobytes() for s in (None, "dpm++", None)
    )
    assert own == again != other


def test_what_it_does_not_do(library: Painter) -> None:
    with pytest.raises(PromptError, match="31 tokens.*12"):
        library.paint("x" * 29)
    with pytest.raises(OptionError, match="only for VisCPM-Paint"):
        library.paint(WORDS, exact=True)


@pytest.fixture
def copy(diffusers_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(diffusers_folder, tmp_path / "copy"))


def test_half_a_folder_names_what_is_missing(copy: Path) -> None:
    shutil.rmtree(copy / "vae")
    with pytest.raises(CheckpointError, match="vae is missing"):
        load_paint(copy)
    (copy / "model_index.json").write_text("[1")
    with pytest.raises(CheckpointError, match=r"model_index.json is damaged"):
        load_paint(copy)


def test_foreign_pipelines_are_refused(copy: Path) -> None:
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"_class_name": "AudioLDMPipeline"}))
    with pytest.raises(ModelError, match="cannot be opened as a text-to-image pipeline"):
        load_paint(copy)


def test_models_of_other_kinds(tiny_chat_folder: Path, diffusers_folder: Path) -> None:
    with pytest.raises(ModelError, match="cannot paint"):
        load_paint(tiny_chat_folder)
    with pytest.raises(ModelError, match="not a model for chat"):
        huayu.load_chat(diffusers_folder)
    with pytest.raises(ModelError, match="int4"):
        load_paint(diffusers_folder, quantize="int4")
    with pytest.raises(OptionError, match="safety"):
        load_paint(diffusers_folder, safety="maybe")
    with pytest.raises(ModelError, match="not a pipeline"):
        Painter(object(), "thing")


def test_without_checks(diffusers_folder: Path) -> None:
    painter = load_paint(diffusers_folder, safety=None, dtype="bfloat16")
    assert painter.paint("naked", steps=1).images
    assert str(painter.backend.pipeline.unet.dtype) == "torch.bfloat16"  # type: ignore[attr-defined]
