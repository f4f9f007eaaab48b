"""Weights in 8 or 4 bits, one scale a row, as published: packed in memory, unpacked block by block while used.

No model is known here: which of its layers to quantise a family says as a :class:`Scope` of name patterns.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "BITS": "rows",
    "quantize_rows": "rows",
    "dequantize_rows": "rows",
    "QuantizedLinear": "layers",
    "QuantizedEmbedding": "layers",
    "Scope": "scopes",
    "Part": "scopes",
    "parse_bits": "scopes",
    "quantize_model": "swap",
    "make_room": "swap",
    "quantizing": "swap",
    "exact": "swap",
    "is_quantized": "swap",
    "while_loading": "swap",
}
__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
