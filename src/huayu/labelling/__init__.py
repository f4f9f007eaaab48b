"""Labels on what we paint: for machines, for people, and the record that paints it again. Imports no torch."""

from __future__ import annotations

from huayu.errors import LabelError
from huayu.labelling.aigc import implicit_label
from huayu.labelling.files import label, read_record, resave, save_png
from huayu.labelling.mark import MARKS, corner_mark
from huayu.labelling.record import PaintRecord

__all__ = [
    "MARKS",
    "LabelError",
    "PaintRecord",
    "corner_mark",
    "implicit_label",
    "label",
    "read_record",
    "resave",
    "save_png",
]
