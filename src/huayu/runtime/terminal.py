"""A picture as coloured text."""

from __future__ import annotations

from PIL import Image


def in_half_blocks(image: Image.Image, width: int) -> str:
    """The picture as ANSI text, two pixels in each character: the upper one as ink, the lower one as paper."""
    height = round(image.height / image.width * width / 2) * 2
    small = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    rows = []
    for y in range(0, height, 2):
        colours = [(*small.getpixel((x, y)), *small.getpixel((x, y + 1))) for x in range(width)]
        rows.append("".join("\x1b[38;2;{};{};{};48;2;{};{};{}m▀".format(*both) for both in colours) + "\x1b[0m")
    return "\n".join(rows)
