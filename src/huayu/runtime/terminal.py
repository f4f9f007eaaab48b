"""A picture as coloured text."""

from __future__ import annotations

import numpy as np
from PIL import Image


def in_half_blocks(image: Image.Image, width: int) -> str:
    """The picture as ANSI text, two pixels in each character: the upper one as ink, the lower one as paper."""
    height = round(image.height / image.width * width / 2) * 2
    small = np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS))
    pairs = np.concatenate([small[0::2], small[1::2]], axis=2)  # (rows, width, 6)
    line = "\x1b[38;2;{};{};{};48;2;{};{};{}m▀"
    return "\n".join("".join(line.format(*both) for both in row) + "\x1b[0m" for row in pairs.tolist())
