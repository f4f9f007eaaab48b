"""Contact sheets: many pictures in a grid, a line of words under each."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from huayu.runtime import lettering

_GAP, _MAX_SIDE, _LETTERS = 8, 256, 14
# Fonts with Chinese characters that systems bring along, by how their files begin; the first found is taken.
_CHINESE_FONTS = (
    "NotoSansCJK-Regular", "NotoSansCJK", "NotoSansSC", "NotoSerifCJK", "SourceHanSans", "wqy", "DroidSansFallback",
    "PingFang", "STHeiti", "Hiragino Sans GB", "msyh", "simhei", "simsun", "Deng", "uming", "ukai", "Arial Unicode",
)  # fmt: skip
_FOLDERS = {
    "win32": (Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts",),
    "darwin": (Path("/System/Library/Fonts"), Path("/Library/Fonts"), Path.home() / "Library/Fonts"),
}
_UNIX_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path.home() / ".local/share/fonts")


def contact_sheet(
    images: Sequence[Image.Image], captions: Sequence[str] = (), columns: int | None = None
) -> Image.Image:
    """One RGB picture with all ``images`` (each at most 256 pixels wide and high) on white, in rows.

    ``captions``: one for each picture, cut to its width. What the package's own letters cannot write takes a Chinese
    font of the system; where there is none, the caption becomes the picture's number. Raises ValueError without any
    picture.
    """
    if not images or (captions and len(captions) != len(images)):
        raise ValueError("a sheet needs at least one picture, and a caption for each or none")
    tiles = [_tile(image) for image in images]
    columns = columns or math.ceil(math.sqrt(len(tiles)))
    width, height = max(t.width for t in tiles), max(t.height for t in tiles)
    line = 20 if captions else 0
    rows = math.ceil(len(tiles) / columns)
    sheet = Image.new("RGB", (columns * (width + _GAP) + _GAP, rows * (height + line + _GAP) + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, tile in enumerate(tiles):
        left = _GAP + (number % columns) * (width + _GAP)
        top = _GAP + (number // columns) * (height + line + _GAP)
        sheet.paste(tile, (left + (width - tile.width) // 2, top + (height - tile.height) // 2))
        if captions:
            text, font = _drawable(captions[number], number + 1)
            draw.text((left, top + height + 2), _fitting(text, font, width), fill="black", font=font)
    return sheet


def _tile(image: Image.Image) -> Image.Image:
    tile = image.convert("RGB")
    tile.thumbnail((_MAX_SIDE, _MAX_SIDE))
    return tile


def _drawable(caption: str, number: int) -> tuple[str, ImageFont.FreeTypeFont]:
    caption = " ".join(caption.split())
    if lettering.can_draw(caption):
        return caption, lettering.font(_LETTERS)
    path = chinese_font()
    return (caption, ImageFont.truetype(str(path), _LETTERS)) if path else (str(number), lettering.font(_LETTERS))


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


@lru_cache(maxsize=1)
def chinese_font() -> Path | None:
    """A font file of this system with Chinese characters, or None."""
    folders = _FOLDERS.get(sys.platform, _UNIX_FOLDERS)
    files = [file for folder in folders if folder.is_dir() for file in sorted(folder.rglob("*.tt[cf]"))]
    files += [file for folder in folders if folder.is_dir() for file in sorted(folder.rglob("*.otf"))]
    for start in _CHINESE_FONTS:
        for file in files:
            if file.name.lower().startswith(start.lower()):
                return file
    return None
