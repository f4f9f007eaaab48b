"""What is shown in place of an unsafe picture: a blurred one, or a card that says why."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from huayu.runtime.lettering import can_draw, draw_lines, wrapped
from huayu.types import Verdict

_BLURRED_SIDE = 8
_GROUND, _INK = (58, 60, 66), (240, 240, 240)


def blurred(image: Image.Image) -> Image.Image:
    """The same size and colours, with no more detail than eight spots on the longer side."""
    scale = _BLURRED_SIDE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)


def card(size: tuple[int, int], verdicts: Sequence[Verdict]) -> Image.Image:
    """A plain card of ``size`` (width, height) that says in both languages that a picture is withheld, and why."""
    said = ["图片未显示", "Picture withheld"]
    for verdict in verdicts:
        said += [reason for reason in (verdict.reason_zh, verdict.reason_en) if can_draw(reason)]
    width, height = size
    letters = max(9, min(size) // 16)
    margin = letters // 2
    lines = [line for text in said for line in wrapped(text, letters, width - 2 * margin)]
    image = Image.new("RGB", size, _GROUND)
    draw_lines(ImageDraw.Draw(image), lines, letters, (margin, margin, width - margin, height - margin), _INK)
    return image
