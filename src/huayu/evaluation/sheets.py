"""Many small pictures on one."""

# N pictures, P side of a picture

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from huayu.paint.sheet import contact_sheet


def sheet(shown: Sequence[tuple[np.ndarray, str]]) -> Image.Image:
    """Pictures (P, P, 3), larger, with captions."""
    images = [Image.fromarray(pixels).resize((128, 128), Image.Resampling.BICUBIC) for pixels, _ in shown]
    return contact_sheet(images, [caption for _, caption in shown], columns=10)


def small_sheet(pixels: np.ndarray, file: Path, columns: int = 15) -> None:
    """Pictures (N, P, P, 3) side by side as one PNG of few colours: for a model card."""
    side = pixels.shape[1]
    whole = np.full((-(-len(pixels) // columns) * side, columns * side, 3), 255, np.uint8)
    for place, picture in enumerate(pixels):
        top, left = (side * number for number in divmod(place, columns))
        whole[top : top + side, left : left + side] = picture
    Image.fromarray(whole).quantize(192).save(file, optimize=True)
