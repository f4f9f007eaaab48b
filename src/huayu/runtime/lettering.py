"""A few words drawn on a picture, in Chinese and English, on machines without a Chinese font.

``lettering.otf`` is a small subset of Noto Sans CJK; its licence lies beside it.
"""

from __future__ import annotations

import io
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

from PIL import ImageFont

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image, ImageDraw

Colour = tuple[int, int, int]


@lru_cache(maxsize=16)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Letters of ``size`` pixels."""
    return ImageFont.truetype(io.BytesIO(files(__package__).joinpath("lettering.otf").read_bytes()), size)


def can_draw(text: str) -> bool:
    """Whether the font has every character."""
    missing = bytes(font(16).getmask("\uffff"))
    return all(char == " " or bytes(font(16).getmask(char)) != missing for char in text)


def wrapped(text: str, size: int, width: int) -> Iterator[str]:
    """Lines no wider than ``width`` pixels where possible; English breaks at spaces, Chinese anywhere."""
    line = ""
    for word in _words(text):
        if line and font(size).getlength((line + word).rstrip()) > width:
            yield line.rstrip()
            line = ""
        line += word
    yield line.rstrip()


def draw_lines(
    canvas: ImageDraw.ImageDraw, lines: list[str], size: int, box: tuple[int, int, int, int], colour: Colour
) -> None:
    """Centred lines in ``box``; those that do not fit are left out."""
    left, top, right, bottom = box
    step = size * 5 // 4
    shown = lines[: max(1, (bottom - top) // step)]
    y = top + (bottom - top - step * len(shown)) // 2
    for line in shown:
        canvas.text((left + (right - left - font(size).getlength(line)) / 2, y), line, colour, font(size))
        y += step


def plate(image: Image.Image, text: str, size: int) -> Image.Image:
    """The picture with white ``text`` on a dark plate in its lower right corner."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = font(size).getbbox(text)
    margin = max(1, size // 4)
    width, height = int(right - left) + 2 * margin, int(bottom - top) + 2 * margin
    layer = Image.new("RGBA", (width, height), (0, 0, 0, 160))
    ImageDraw.Draw(layer).text((margin - left, margin - top), text, "white", font(size))
    marked = image.convert("RGBA")
    marked.alpha_composite(layer, (max(0, image.width - width), max(0, image.height - height)))
    return marked.convert("RGB")


def _words(text: str) -> Iterator[str]:
    word = ""
    for char in text:
        word += char
        if char == " " or ord(char) > 0x2E80:
            yield word
            word = ""
    yield word
