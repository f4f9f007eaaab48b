"""huayu 画语: Chinese–English multimodal models.

``import huayu`` is quick and imports neither torch nor transformers; what is listed here is fetched when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from huayu.chat import ChatModel, ChatOptions, ChatReply, Conversation, load_chat
    from huayu.errors import (
        Cancelled,
        CheckpointError,
        HuayuError,
        ImageError,
        LabelError,
        ModelError,
        OptionError,
        OutOfMemory,
        PromptError,
    )
    from huayu.paint import Painter, PaintOptions, PaintResult, contact_sheet, load_paint
    from huayu.types import Usage, Verdict

__all__ = [
    "Cancelled",
    "ChatModel",
    "ChatOptions",
    "ChatReply",
    "CheckpointError",
    "Conversation",
    "HuayuError",
    "ImageError",
    "LabelError",
    "ModelError",
    "OptionError",
    "OutOfMemory",
    "PaintOptions",
    "PaintResult",
    "Painter",
    "PromptError",
    "Usage",
    "Verdict",
    "__version__",
    "contact_sheet",
    "load_chat",
    "load_paint",
]

_HOME = {
    **dict.fromkeys(("ChatModel", "ChatOptions", "ChatReply", "Conversation", "load_chat"), "huayu.chat"),
    **dict.fromkeys(
        (
            "Cancelled",
            "CheckpointError",
            "HuayuError",
            "ImageError",
            "LabelError",
            "ModelError",
            "OptionError",
            "OutOfMemory",
            "PromptError",
        ),
        "huayu.errors",
    ),
    **dict.fromkeys(("PaintOptions", "PaintResult", "Painter", "contact_sheet", "load_paint"), "huayu.paint"),
    **dict.fromkeys(("Usage", "Verdict"), "huayu.types"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'huayu' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
