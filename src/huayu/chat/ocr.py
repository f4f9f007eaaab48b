"""Text that stands in a picture: read by RapidOCR (the extra ``ocr``), and quoted so that it stays text."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from huayu.errors import ModelError
from huayu.runtime.language import language_of
from huayu.runtime.packages import is_installed

MOST_CHARACTERS = 600  # that a model is given; a reader gets all

_LOCK = threading.Lock()
# Characters that open special tokens, templates or quotations somewhere, and what says the same to a reader.
_HARMLESS = str.maketrans({"<": "‹", ">": "›", "[": "(", "]": ")", "{": "(", "}": ")", "|": "/", "`": "'"})
_QUOTES = re.compile('["“”„「」『』《》]')
_HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")
# "User:" and its like, which begin a turn in one model's prompt or another's.
_ROLE = re.compile(
    r"\b(user|assistant|system|human|ai|bot|q|a|question|answer|context)\s*[:：]|(问|答|用户|助手|系统)\s*[:：]", re.I
)


@dataclass(frozen=True)
class TextLine:
    """A line as it stands in the picture, how sure the reader is (0–1), and its box as shares of the sides."""

    text: str
    score: float
    box: tuple[float, float, float, float]


def read_text(image: Image.Image) -> tuple[TextLine, ...]:
    """The lines of text in an RGB picture, from top to bottom. Raises ModelError when the extra is not installed."""
    import numpy as np

    engine = _engine()
    with _LOCK:
        found = engine(np.asarray(image.convert("RGB"))[:, :, ::-1])
    if found.boxes is None or not found.txts:
        return ()
    size = np.array(image.size)
    lines = []
    for text, score, corners in zip(found.txts, found.scores, found.boxes, strict=True):
        low, high = (np.asarray(corners) / size).min(0).clip(0, 1), (np.asarray(corners) / size).max(0).clip(0, 1)
        box = tuple(round(float(value), 4) for value in (*low, *high))
        if text.strip():
            lines.append(TextLine(text.strip(), round(float(score), 4), box))  # type: ignore[arg-type]
    return tuple(lines)


def require_reader() -> None:
    """Raises ModelError, which says what to install, when the extra is missing."""
    if not (is_installed("rapidocr") and is_installed("onnxruntime")):
        command = 'pip install "huayu[ocr]"'
        raise ModelError(f"Reading text in pictures needs: {command}", f"识别图中文字需要先安装：{command}")


@cache
def _engine() -> Any:
    """The reader with the models of its own wheel: it opens nothing else and says nothing."""
    require_reader()
    import onnxruntime
    import rapidocr

    onnxruntime.set_default_logger_severity(4)
    folder = Path(rapidocr.__file__).parent / "models"
    # Its default blows a small picture up until the shorter side has 736 pixels, which costs ten times the time.
    limit = {"Det.limit_type": "max", "Det.limit_side_len": 2000}
    settings: dict[str, Any] = {"Global.log_level": "critical", **limit}
    for part in ("Det", "Cls", "Rec"):
        files = sorted(folder.glob(f"*_{part.lower()}_*.onnx"))
        if not files:  # given no path, it would download one
            raise ModelError(f"RapidOCR has no model in {folder}.", f"RapidOCR 的 {folder} 中没有模型。")
        settings[f"{part}.model_path"] = str(files[0])
    if threads := os.environ.get("OMP_NUM_THREADS", ""):
        settings["EngineConfig.onnxruntime.intra_op_num_threads"] = int(threads)
    return rapidocr.RapidOCR(params=settings)


def quoted(lines: Sequence[TextLine], language: str) -> str:
    """One sentence that quotes the lines; empty without any.

    Nothing in the quotation can end it, open a special token or begin a turn; a line of the picture is never a line of
    the prompt. Backends escape their own special tokens besides.
    """
    texts, left = [], MOST_CHARACTERS
    for line in lines:
        text = _harmless(line.text)
        if text and left > 0:
            texts.append(text if len(text) <= left else f"{text[:left]}…")
            left -= len(text)
    if not texts:
        return ""
    if language == "zh":
        return f"（图中写着：{'、'.join(f'“{text}”' for text in texts)}。）"
    return f"(The picture has the text {', '.join(f'“{text}”' for text in texts)}.)"


def with_text(question: str, lines: Sequence[TextLine]) -> str:
    """The question, after what is written in the picture."""
    language = language_of(question)
    sentence = quoted(lines, language)
    return f"{sentence}{'' if language == 'zh' else ' '}{question}" if sentence else question


def _harmless(text: str) -> str:
    text = _QUOTES.sub("'", _HIDDEN.sub(" ", text)).translate(_HARMLESS)
    text = _ROLE.sub(lambda match: f"{match[1] or match[2]} - ", text)
    return re.sub(r"\s+", " ", text).strip()
