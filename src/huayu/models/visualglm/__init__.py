"""VisualGLM-6B. Heavy classes are imported on first use."""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "VisualGLMConfig": "configuration",
    "VisualGLMForConditionalGeneration": "modeling",
    "VisualGLMProcessor": "processing",
    "VisualGLMImageProcessor": "processing",
    "HF_KEYMAP": "checkpoint",
    "SAT_KEYMAP": "checkpoint",
    "HF_SIGNATURE": "checkpoint",
    "SAT_SIGNATURE": "checkpoint",
}
__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
