"""Which language the screen speaks, and which language a question is in."""

from __future__ import annotations

import os
import re

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
