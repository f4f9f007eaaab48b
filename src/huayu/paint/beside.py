"""Two pictures set together, for a model that paints one thing at a time."""

from __future__ import annotations

import numpy as np
from PIL import Image

ALIKE = 24.0  # levels of 255 by which grounds that are meant to be one may differ
EDGE = 3  # pixels over which a picture fades into its ground


def together(first: Image.Image, second: Image.Image, *, upright: bool) -> Image.Image:
    """Two pictures of one size, side by side or ``upright``, in a square of twice the size on their own grounds."""
    halves = [np.asarray(picture.convert("RGB"), np.float32) for picture in (first, second)]
    grounds = [_ground(half) for half in halves]
    if np.abs(grounds[0] - grounds[1]).max() < ALIKE:
        grounds = [(grounds[0] + grounds[1]) / 2] * 2
    strips = [_in_strip(half, ground, upright=upright) for half, ground in zip(halves, grounds, strict=True)]
    return Image.fromarray(np.concatenate(strips, 0 if upright else 1).round().clip(0, 255).astype(np.uint8))


def _in_strip(half: np.ndarray, ground: np.ndarray, *, upright: bool) -> np.ndarray:
    """The picture (H, W, 3) in the middle of a strip of its ground, twice as high, or as wide."""
    rows, columns = half.shape[:2]
    ramps = [np.minimum(1, np.minimum(np.arange(n) + 1, np.arange(n, 0, -1)) / (EDGE + 1)) for n in (rows, columns)]
    shown = (ramps[0][:, None] * ramps[1])[..., None].astype(np.float32)
    mixed = shown * half + (1 - shown) * ground
    size = (rows, 2 * columns) if upright else (2 * rows, columns)
    strip = np.tile(ground, (*size, 1))
    top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
    strip[top : top + rows, left : left + columns] = mixed
    return strip


def _ground(half: np.ndarray) -> np.ndarray:
    """The usual colour (3,) of the picture's border."""
    border = (half[0], half[-1], half[:, 0], half[:, -1])
    return np.median(np.concatenate(border), axis=0)
