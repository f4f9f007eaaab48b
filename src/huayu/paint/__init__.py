"""Painting from words: :func:`load_paint` opens a model, :class:`Painter` paints. Imports no torch."""

from __future__ import annotations

from huayu.paint.loading import load_paint
from huayu.paint.options import PaintOptions
from huayu.paint.painter import Painter, PaintStream
from huayu.paint.replay import repaint
from huayu.paint.result import Painted, PaintResult, Progress
from huayu.paint.sheet import contact_sheet

__all__ = [
    "PaintOptions",
    "PaintResult",
    "PaintStream",
    "Painted",
    "Painter",
    "Progress",
    "contact_sheet",
    "load_paint",
    "repaint",
]
