"""Two pictures set together."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from huayu.paint.beside import EDGE, together


def spot(ground: int, ink: int) -> Image.Image:
    """A square of 20 pixels on a ground of 64."""
    pixels = np.full((64, 64, 3), ground, np.uint8)
    pixels[22:42, 22:42] = ink
    return Image.fromarray(pixels)


@pytest.mark.parametrize("upright", [False, True])
def test_two_pictures_share_a_square(upright: bool) -> None:
    pixels = np.asarray(together(spot(200, 10), spot(204, 90), upright=upright))
    pixels = pixels.transpose(1, 0, 2) if upright else pixels
    assert pixels.shape == (128, 128, 3)
    assert (pixels[54:74, 22:42] == 10).all()
    assert (pixels[54:74, 86:106] == 90).all()
    assert np.unique(pixels[[0, 127]]).tolist() == [202], "one ground for both"
    assert np.abs(pixels[:, 60:68].astype(int) - 202).max() <= 2, "no seam"


def test_grounds_that_differ_stay() -> None:
    pixels = np.asarray(together(spot(40, 10), spot(240, 90), upright=False))
    assert (pixels[:20, :64] == 40).all()
    assert (pixels[:20, 64:] == 240).all()


def test_edges_fade_into_the_ground() -> None:
    edged = np.asarray(spot(200, 10)).copy()
    edged[60:, :30] = 0  # ink at the border
    pixels = np.asarray(together(Image.fromarray(edged), spot(200, 10), upright=False))[:, :30].astype(int)
    assert (np.diff(pixels[95 - EDGE : 97, 10, 0]) > 0).all()
