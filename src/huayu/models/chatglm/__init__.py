"""ChatGLM-6B, the language model. Heavy classes are imported on first use."""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "ChatGLMConfig": "configuration",
    "ChatGLMModel": "modeling",
    "ChatGLMForCausalLM": "modeling",
    "ChatGLMTokenizer": "tokenization",
    "HF_KEYMAP": "checkpoint",
    "SAT_KEYMAP": "checkpoint",
}
__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
