"""What a run writes while it trains: figures, curves, samples."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from huayu.runtime.packages import require
from huayu.training.curves import draw_curves


@dataclasses.dataclass(frozen=True)
class Sample:
    """What was asked and what came: an answer beside the ``truth``, or a picture."""

    asked: str
    answer: str = ""
    truth: str = ""
    picture: Image.Image | None = None

    def words(self) -> str:
        """One line of Markdown."""
        meant = f" ({self.truth})" if self.truth else ""
        return f"- {self.asked} → {self.answer or '…'}{meant}"


class Journal:
    """``log.jsonl``, ``curves.png``, ``samples/`` and, if asked for, ``tensorboard/`` in ``folder``, from ``step`` on.

    Lines written after the checkpoint that a run resumes from are dropped.
    """

    def __init__(self, folder: Path, step: int, *, tensorboard: bool = False) -> None:
        self.folder, self._log, self._board = folder, folder / "log.jsonl", None
        kept = []
        if self._log.exists():
            kept = [line for line in self._log.read_text().splitlines() if json.loads(line)["step"] <= step]
        self._log.write_text("".join(line + "\n" for line in kept))
        if tensorboard:
            require("tensorboard", "tensorboard")
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of one step."""
        self._write(step=step, **figures)
        self._scalars("training", step, figures)

    def evaluation(self, step: int, figures: Mapping[str, float], samples: Sequence[Sample]) -> None:
        """Figures of an evaluation, what the model says or paints by then, and the curves so far."""
        self._write(step=step, evaluation=figures)
        self._scalars("evaluation", step, figures)
        print(step, json.dumps(figures, ensure_ascii=False), flush=True)
        draw_curves(self._log, self.folder / "curves.png")
        if samples:
            self._samples(step, samples)

    def _write(self, **row: Any) -> None:
        with self._log.open("a") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def _scalars(self, group: str, step: int, figures: Mapping[str, float]) -> None:
        if self._board:
            for name, value in figures.items():
                self._board.add_scalar(f"{group}/{name}", value, step)
            self._board.flush()

    def _samples(self, step: int, samples: Sequence[Sample]) -> None:
        folder = self.folder / "samples"
        folder.mkdir(exist_ok=True)
        words = "\n".join(sample.words() for sample in samples)
        (folder / f"{step:06}.md").write_text(words + "\n", "utf-8")
        if self._board:
            self._board.add_text("samples", words, step)
        for number, sample in enumerate(samples, 1):
            if sample.picture is not None:
                sample.picture.save(folder / f"{step:06}-{number}.png")
                if self._board:
                    self._board.add_image(f"samples/{number}", np.asarray(sample.picture), step, dataformats="HWC")


@contextmanager
def progress(name: str, start: int, steps: int, *, shown: bool) -> Iterator[Callable[[float], None]]:
    """A bar on the screen; what it yields is told the loss of each step."""
    columns = (
        *Progress.get_default_columns()[:3],
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not shown) as shows:
        bar = shows.add_task(name, total=steps, completed=start, loss="")
        yield lambda loss: shows.update(bar, advance=1, loss=f"loss {loss:.3f}")
