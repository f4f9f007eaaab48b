"""What a check is, and the verdicts they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from huayu.types import Verdict

if TYPE_CHECKING:
    from PIL import Image

ERROR = "error"


class PromptCheck(Protocol):
    """Judges a text; ``name`` is shown to users."""

    name: str

    def __call__(self, text: str) -> Verdict: ...


class PictureCheck(Protocol):
    """Judges an RGB picture; ``name`` is shown to users."""

    name: str

    def __call__(self, image: Image.Image) -> Verdict: ...


def passed(name: str, score: float = 0.0) -> Verdict:
    """Nothing found; ``score`` is what the check would have to find more of, in [0, 1]."""
    return Verdict(True, "safe", score, f"{name} 未发现问题。", f"{name} found nothing.")


def crashed(name: str, problem: BaseException) -> Verdict:
    """A check that fails says nothing about safety, so it blocks."""
    what = f"{type(problem).__name__}: {problem}".rstrip(": ")
    return Verdict(False, ERROR, 1.0, f"安全检查 {name} 未能完成（{what}）。", f"The check {name} failed ({what}).")
