"""What a ranker is, and choosing by its scores. No torch here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from huayu.runtime.language import language_of, say
from huayu.types import Verdict

if TYPE_CHECKING:
    from PIL import Image

_LOG = logging.getLogger("huayu")

# Asked of a finished picture and its prompt: does it show that?
Looker = Callable[["Image.Image", str], bool | Verdict]


class Ranker(Protocol):
    """Says how well each picture shows the prompt; higher is better, and only the order of one call's scores counts."""

    def __call__(self, prompt: str, images: Sequence[Image.Image]) -> list[float]: ...


def best_of(scores: Sequence[float], group: int) -> list[int]:
    """The position of the best of each ``group`` of scores in a row; the first of equals. Source: spec viscpm §5.4.

    Raises ValueError when the scores are not whole groups.
    """
    if group < 1 or len(scores) % group:
        raise ValueError(f"{len(scores)} scores are not whole groups of {group}")
    return [max(range(first, first + group), key=lambda i: scores[i]) for first in range(0, len(scores), group)]


def choose_ranker(prompt: str, zh: Ranker | None = None, en: Ranker | None = None) -> Ranker | None:
    """``zh`` for a Chinese prompt, ``en`` for an English one; None, with a word in the log, where there is none.

    A Chinese-CLIP is not asked about English: its text encoder was trained on Chinese.
    """
    language = language_of(prompt)
    ranker = zh if language == "zh" else en
    if ranker is None:
        _LOG.warning(
            "%s",
            say(
                f"Not ranked: no ranker for {'Chinese' if language == 'zh' else 'English'} prompts is set up.",
                f"未排序：没有为{'中文' if language == 'zh' else '英文'}提示设置排序模型。",
            ),
        )
    return ranker
