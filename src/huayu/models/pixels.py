"""Pictures to squares, to the pixel the same with every version of Pillow."""

from __future__ import annotations

from PIL import Image


def squared(image: Image.Image, side: int) -> Image.Image:
    """Bicubic to ``side`` × ``side`` in two passes, in the order that Pillow 13 chooses.

    Up to Pillow 12 the horizontal pass always came first, which rounds tall pictures differently by several levels:
    spelled out, the order (and so every pixel) does not depend on the version that is installed.
    """
    width, height = image.size
    vertical_first = height - side > 2 * max(0, width - side)
    between = (width, side) if vertical_first else (side, height)
    return image.resize(between, Image.Resampling.BICUBIC).resize((side, side), Image.Resampling.BICUBIC)
