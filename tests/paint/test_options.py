"""Options: what is refused and in which words, how they meet what a model declares."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from PIL import Image

import huayu
from huayu.errors import HuayuError, ImageError, OptionError
from huayu.paint import PaintOptions
from huayu.paint.options import SCHEDULERS, Facts, settle

FREE = Facts(size=(64, 64), steps=9, guidance=4.0, exact=True)
FIXED = Facts(size=(64, 64), sizes=((64, 64), (128, 64)))
PHOTO = Image.new("RGB", (90, 60), "red")


def test_the_model_fills_what_is_not_asked_for() -> None:
    settings = settle(PaintOptions(), FREE)
    assert (settings.size, settings.steps, settings.guidance, settings.strength) == ((64, 64), 9, 4.0, 0.75)
    assert 0 <= settings.seed < 2**32
    given = settle(PaintOptions(seed=0, size=128, steps=2, guidance=0, scheduler="ddim"), FREE)
    assert (given.seed, given.size, given.steps, given.guidance, given.scheduler) == (0, (128, 128), 2, 0, "ddim")
    exact = settle(PaintOptions(exact=True), FREE)
    assert (exact.steps, exact.guidance, exact.scheduler) == (50, 7.5, "ddpm")
    assert huayu.PaintOptions is PaintOptions


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"n": 0}, "n must be ≥ 1"),
        ({"n": True}, "n must be"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"steps": 1001}, "steps"),
        ({"guidance": float("nan")}, "guidance"),
        ({"strength": 0, "image": PHOTO}, "strength"),
        ({"strength": 0.5}, "strength needs image"),
        ({"mask": PHOTO}, "mask needs image"),
        ({"size": 101}, "101×101 is not a multiple of 8.*104×104"),
        ({"size": (511, 3)}, "nearest is 512×8"),
        ({"size": (8, 8, 8)}, "size must be"),
        ({"size": (-8, 8)}, "size must be"),
        ({"scheduler": "heun"}, r"ddpm, ddim, dpm\+\+, unipc, euler, pndm"),
        ({"mark": "fr"}, "mark"),
        ({"candidates": 0}, "candidates"),
        ({"batch_size": 0}, "batch_size"),
        ({"repaints": -1}, "repaints"),
        ({"exact": True, "scheduler": "ddim"}, "published procedure"),
        ({"exact": True, "image": PHOTO}, "published procedure"),
        ({"negative": None}, "negative"),
    ],
)
def test_refusals(given: dict, words: str) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        PaintOptions(**given)
    assert caught.value.zh != caught.value.en


def test_unknown_names_and_changes_are_errors() -> None:
    with pytest.raises(TypeError, match="step"):
        PaintOptions(step=3)  # type: ignore[call-arg]
    with pytest.raises(FrozenInstanceError):
        PaintOptions().n = 2  # type: ignore[misc]


def test_names_of_schedulers_are_those_of_the_pipeline() -> None:
    from huayu.models.viscpm_paint import SCHEDULERS as THEIRS

    assert set(SCHEDULERS) == set(THEIRS)


def test_sizes_that_the_model_declares() -> None:
    assert settle(PaintOptions(size=(128, 64)), FIXED).size == (128, 64)
    with pytest.raises(OptionError, match="64×64, 128×64"):
        settle(PaintOptions(size=72), FIXED)
    with pytest.raises(OptionError, match="only for VisCPM-Paint"):
        settle(PaintOptions(exact=True), FIXED)


def test_a_picture_to_start_from_decides_the_size() -> None:
    small = Image.new("RGB", (50, 30))
    assert settle(PaintOptions(image=small), FREE).size == (48, 32)
    settings = settle(PaintOptions(image=PHOTO, mask=PHOTO.convert("L")), FREE)
    assert settings.size == (80, 56)
    assert settings.size[0] * settings.size[1] < 1.2 * 64 * 64
    assert settings.image is not None
    assert settings.mask is not None
    assert (settings.image.size, settings.image.mode, settings.mask.size, settings.mask.mode) == (
        (80, 56),
        "RGB",
        (80, 56),
        "L",
    )
    assert settle(PaintOptions(image=PHOTO), FIXED).size == (64, 64)


def test_masks_and_pictures_that_cannot_be_read() -> None:
    with pytest.raises(ImageError, match="9×9.*90×60"):
        settle(PaintOptions(image=PHOTO, mask=Image.new("L", (9, 9))), FREE)
    with pytest.raises(HuayuError, match="does not exist"):
        settle(PaintOptions(image="nowhere.png"), FREE)
