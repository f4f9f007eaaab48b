"""The faces that users of the published systems know: change the import line of an old script, and it runs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huayu.compat.viscpm import VisCPMChat
    from huayu.compat.viscpm_paint import VisCPMPaint
    from huayu.compat.visualglm import FineTuneVisualGLMModel, VisualGLMModel, chat, quantize

_GLM = dict.fromkeys(("VisualGLMModel", "FineTuneVisualGLMModel", "chat", "quantize"), "visualglm")
_HOME = {"VisCPMChat": "viscpm", "VisCPMPaint": "viscpm_paint", **_GLM}
__all__ = ["FineTuneVisualGLMModel", "VisCPMChat", "VisCPMPaint", "VisualGLMModel", "chat", "quantize"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
