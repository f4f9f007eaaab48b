"""Tiny real pipelines, opened once, and small checks and rankers to hand in."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from PIL import Image

from huayu.paint import Painter
from huayu.types import Verdict


class Brightest:
    """A ranker: the brighter the better."""

    def __call__(self, prompt: str, images: Sequence[Image.Image]) -> list[float]:
        return [sum(image.convert("L").tobytes()) / 1000 for image in images]


class Refusing:
    """A picture check that refuses the pictures whose pixels it is given."""

    name = "refusing"

    def __init__(self, *refused: Image.Image) -> None:
        self.refused = {image.tobytes() for image in refused}

    def __call__(self, image: Image.Image) -> Verdict:
        allowed = image.tobytes() not in self.refused
        return Verdict(allowed, "safe" if allowed else "bad", float(not allowed), "不妥", "not fit")


@pytest.fixture(scope="session")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Painter:
    """A tiny VisCPM-Paint of 16 × 16 pixels that takes 3 steps."""
    from tests.models.viscpm_paint.tiny import pipeline

    return Painter(pipeline(tmp_path_factory.mktemp("tiny-paint")), "tiny")
