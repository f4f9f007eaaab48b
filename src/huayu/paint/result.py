"""What a painter hands back: progress, pictures with their story, and the whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image

from huayu.types import Verdict

if TYPE_CHECKING:
    from huayu.labelling import PaintRecord


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` denoising steps of the request; repainting adds to the total.

    ``preview``: what the first picture of the batch looks like so far, when previews were asked for and are cheap.
    """

    done: int
    total: int
    preview: Image.Image | None = None


@dataclass(frozen=True)
class Painted:
    """A finished picture. ``index`` in the request; ``seed`` that paints it alone.

    ``scores`` of all its candidates, in the order of their seeds; empty without a ranker. ``verdicts`` of the picture
    checks; ``look``: what ``check`` said of it, None without one.
    """

    index: int
    image: Image.Image
    seed: int
    record: PaintRecord
    scores: tuple[float, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    look: Verdict | None = None

    def save(self, path: str | Path) -> None:
        """Write a PNG with its labels and its record, all or nothing."""
        from huayu.labelling import save_png

        save_png(self.image, path, self.record)


@dataclass(frozen=True)
class PaintResult:
    """Pictures in the order of their index, each with its seed, scores and record.

    ``prompt_verdicts``: of the prompt checks. ``finish``: ``"done"``; ``"blocked"`` (the prompt was, nothing is
    painted); ``"cancelled"`` (what was finished is here).
    """

    pictures: tuple[Painted, ...]
    prompt_verdicts: tuple[Verdict, ...] = ()
    finish: Literal["done", "blocked", "cancelled"] = "done"
    seconds: float = 0.0

    @property
    def images(self) -> list[Image.Image]:
        """PIL pictures, RGB."""
        return [picture.image for picture in self.pictures]

    @property
    def seeds(self) -> list[int]:
        """One for each picture: it alone paints the same; in exact mode the one seed of all."""
        return [picture.seed for picture in self.pictures]

    @property
    def scores(self) -> list[tuple[float, ...]]:
        """For each picture the scores of its candidates."""
        return [picture.scores for picture in self.pictures]

    @property
    def records(self) -> list[PaintRecord]:
        """For each picture what painted it."""
        return [picture.record for picture in self.pictures]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Of the prompt, then of each picture."""
        return self.prompt_verdicts + tuple(verdict for picture in self.pictures for verdict in picture.verdicts)

    def save(self, path: str | Path) -> list[Path]:
        """Write all as PNG: one to ``path``, several to ``path`` with -1, -2, … before the suffix."""
        paths = numbered(path, len(self.pictures))
        for picture, place in zip(self.pictures, paths, strict=True):
            picture.save(place)
        return paths


def numbered(path: str | Path, count: int) -> list[Path]:
    """``path`` for one picture; for several ``name-1.png``, ``name-2.png``, …"""
    path = Path(path)
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, count + 1)]
