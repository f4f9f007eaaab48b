"""The painter in the package, as a user meets it: the colour asked for, in both languages, every time alike."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from huayu import embedded
from huayu.data import world
from huayu.evaluation.paint_judges import background_of
from huayu.paint import Painter, load_paint
from huayu.paint.replay import repaint
from huayu.paint.result import Progress

HERE = "huayu-paint-mini" in embedded.EMBEDDED and (embedded.folder("huayu-paint-mini") / "model_index.json").is_file()
pytestmark = pytest.mark.skipif(not HERE, reason="a source tree without the shipped weights")


@pytest.fixture(scope="module")
def mini() -> Painter:
    return load_paint(device="cpu", safety=None)


def one(painter: Painter, prompt: str, seed: int = 0) -> Image.Image:
    return painter.paint(prompt, seed=seed).images[0]


@pytest.mark.parametrize("ground", range(len(world.BACKGROUNDS)))
def test_the_background_is_the_colour_that_was_asked_for(mini: Painter, ground: int) -> None:
    en, zh, _ = world.BACKGROUNDS[ground]
    pictures = [one(mini, f"一个{zh}背景上的苹果"), one(mini, f"a dog on a {en} background")]
    assert background_of(np.stack([np.asarray(p) for p in pictures])).tolist() == [ground, ground]


def test_both_languages_and_other_names_paint_the_same_thing(mini: Painter) -> None:
    def far(a: str, b: str) -> float:
        first, second = (np.asarray(one(mini, prompt), np.float32) for prompt in (a, b))
        return float(np.abs(first - second).mean())

    for zh, en in (("苹果", "apple"), ("画一只猫", "a kitten"), ("一个红苹果", "a red apple"), ("汽车", "draw a car")):
        assert far(zh, en) < 0.5 * far(zh, "a pineapple"), (zh, en)
    assert far("一只狗", "狗，线条风格") > 10, "a style that is named changes the picture"


def test_a_seed_paints_the_same_picture_again(mini: Painter) -> None:
    assert mini.backend.facts.size == (64, 64)
    assert one(mini, "火箭", 5).tobytes() == one(mini, "火箭", 5).tobytes()


@pytest.mark.parametrize(
    "prompt", ["左边一只狗，右边一只猫，蓝色背景", "a dog on the left and a cat on the right, blue background"]
)
def test_two_things_stand_side_by_side(mini: Painter, prompt: str) -> None:
    stream = mini.stream(prompt, seed=3)
    steps = [event for event in stream if isinstance(event, Progress)]
    picture = stream.result.images[0]
    assert picture.size == (128, 128)
    halves = [picture.crop((x, 32, x + 64, 96)) for x in (0, 64)]
    for half, alone in zip(halves, ("狗，蓝色背景", "猫，蓝色背景"), strict=True):
        pictures = (half, one(mini, alone, 3), one(mini, "苹果，蓝色背景", 3))
        painted, same, other = (np.asarray(picture, np.float32)[8:-8, 8:-8] for picture in pictures)
        assert np.abs(painted - same).mean() < 0.5 * np.abs(painted - other).mean()
    done = [event.done for event in steps]
    assert done == sorted(done)
    assert done[-1] == steps[-1].total
    assert repaint(mini, stream.result.records[0]).image.tobytes() == picture.tobytes()
