"""The mark that people see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from huayu.errors import OptionError
from huayu.runtime.lettering import plate

if TYPE_CHECKING:
    from PIL import Image

MARKS = {"zh": "AI生成", "en": "AI generated"}
# Source: letters of at least 5 % of the shorter side, as reports on GB 45438-2025 say (docs/safety.md).
_SHARE, _LEAST = 0.055, 9


def corner_mark(image: Image.Image, language: Literal["zh", "en"]) -> Image.Image:
    """The RGB picture with "AI生成" or "AI generated" in its lower right corner. Raises OptionError."""
    if language not in MARKS:
        raise OptionError(f"A mark is in zh or en, not {language!r}.", f"标识语言应为 zh 或 en，而不是 {language!r}。")
    return plate(image, MARKS[language], max(_LEAST, round(min(image.size) * _SHARE)))
