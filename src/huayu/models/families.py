"""The table of model families. A new family is one folder and one line here."""

from __future__ import annotations

import importlib
from types import ModuleType

FAMILIES: dict[str, str] = {
    "viscpm_chat": "huayu.models.viscpm_chat",
    "viscpm_paint": "huayu.models.viscpm_paint",
    "visualglm": "huayu.models.visualglm",
    "cpm_bee": "huayu.models.cpm_bee",
    "chatglm": "huayu.models.chatglm",
}


def family(name: str) -> ModuleType:
    """Import the package of one family; ``name`` is a key of :data:`FAMILIES`. Raises KeyError."""
    return importlib.import_module(FAMILIES[name])
