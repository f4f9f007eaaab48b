"""What one may wish of a painting, and how the page shows that it is under way."""

from __future__ import annotations

import base64
import io
from html import escape

import gradio as gr
from PIL import Image

from huayu.errors import OptionError
from huayu.runtime.language import language_of
from huayu.webui.common import Room

MINI = "huayu-paint-mini"
STYLES_OF_OTHERS = {  # of models that know more than pictograms
    "en": ("ink wash painting", "watercolour", "oil painting", "photograph", "anime"),
    "zh": ("水墨画", "水彩画", "油画", "摄影", "动漫"),
}
TRY = {
    "en": ("a sailboat on a blue background", "a panda", "a birthday cake", "a cat, 3D style"),
    "zh": ("蓝色背景上的帆船", "一只熊猫", "一块蛋糕", "猫，立体风格"),
}


def number(label: str, hint: str, precision: int | None = None) -> gr.Number:
    """A field for a number that may be left empty."""
    return gr.Number(None, label=label, placeholder=hint, precision=precision, minimum=0, min_width=120)


def size_of(text: str | None) -> tuple[int, int] | None:
    """Width and height. Raises OptionError."""
    if not text:
        return None
    sides = text.split("×")
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        raise OptionError(f"A size is like 512×512, not {text}.", f"大小应如 512×512，而不是 {text}。")
    return int(sides[0]), int(sides[1])


def with_style(prompt: str, style: str | None, model: str) -> str:
    """The prompt with the words for a style."""
    if not style or not prompt.strip():
        return prompt
    text = prompt.strip().rstrip("。.")
    if language_of(prompt) == "zh":
        return f"{text}，{style}" + ("风格" if model == MINI else "")
    return f"{text}, {style}" + (" style" if model == MINI else "")


def empty(room: Room) -> str:
    """HTML where nothing was painted yet."""
    return f'<div class="empty">{room.say("empty paint")}</div>'


def bar(word: str, done: int, total: int, preview: Image.Image | None = None) -> str:
    """HTML of a progress bar with what is going on, and the picture so far."""
    shown = ""
    if preview is not None:
        buffer = io.BytesIO()
        preview.save(buffer, "PNG", compress_level=1)
        shown = f'<img alt="" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode("ascii")}">'
    line = f'<label>{escape(word)}<progress max="{max(total, 1)}" value="{done}"></progress></label>'
    return f'<div class="working" role="status">{line}{shown}</div>'
