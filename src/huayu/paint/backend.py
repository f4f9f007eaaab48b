"""What a painter needs of a pipeline: its facts, and pictures for one call. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from huayu.paint.options import Facts, Settings

OnStep = Callable[[int, int, Image.Image | None], None]


@dataclass(frozen=True)
class Job:
    """Pictures of one call, one for each of ``seeds``; in exact mode all are drawn from the first seed.

    ``generator``: a torch generator to draw from instead of the seeds; exact mode only.
    """

    prompt: str
    settings: Settings
    seeds: Sequence[int]
    generator: Any = None


class Backend(Protocol):
    """One opened pipeline."""

    name: str
    facts: Facts

    def check(self, prompt: str, settings: Settings) -> None:
        """Raises PromptError or OptionError for what cannot be painted, before anything runs."""

    def paint(self, job: Job, on_step: OnStep) -> list[Image.Image]:
        """The pictures (RGB). ``on_step(done, steps, preview)`` after each step; what it raises ends it."""
