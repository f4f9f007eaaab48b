"""Which language the screen speaks, which a question is in, and the two ways to write Chinese.

OpenCC is imported when first needed.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any

_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")


def ui_language() -> str:
    """``"zh"`` or ``"en"``: HUAYU_LANG if set, else the locale, else English."""
    names = ("HUAYU_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
    chosen = next((os.environ[name] for name in names if os.environ.get(name)), "en")
    return "zh" if chosen.lower().startswith("zh") else "en"


def say(en: str, zh: str) -> str:
    """The sentence in the screen's language."""
    return zh if ui_language() == "zh" else en


def language_of(text: str) -> str:
    """``"zh"`` when the text holds a Han character, else ``"en"``."""
    return "zh" if _HAN.search(text) else "en"


@lru_cache(maxsize=2)
def _converter(direction: str) -> Any:
    from opencc import OpenCC

    return OpenCC(direction)


def to_simplified(text: str) -> str:
    """Simplified Chinese; other text stays."""
    return _converter("t2s").convert(text) if language_of(text) == "zh" else text


def to_traditional(text: str) -> str:
    """Traditional Chinese; other text stays."""
    return _converter("s2t").convert(text) if language_of(text) == "zh" else text
