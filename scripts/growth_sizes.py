"""What more things and more layers cost: ``python scripts/growth_sizes.py`` trains the same stages at several sizes.

About an hour and a half of one core. A run that was stopped goes on; one that is done is not run again. The curves
go into docs/growth.json; ``python scripts/growth.py`` draws them. Needs the extra ``train`` and the drawings
(``python -m huayu.data.pictograms``).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "growth.json"
EYE, ANSWERS = "recipes/mini_chat/vision.toml", "recipes/mini_glm/language.toml"
THINGS = (30, 75, 150)
LENGTH = {EYE: {"steps": 600, "evaluate_every": 150}, ANSWERS: {"steps": 1250, "evaluate_every": 250}}
DONE = {EYE: "vision.pt", ANSWERS: "language.pt"}  # what a run writes at its end
SEEN = "train-eval/held/3"  # all of three things that training never showed together


class Run(NamedTuple):
    """One size: its recipe and what differs from it, and in which panels of the picture it stands, by which name."""

    recipe: str
    changes: dict[str, int]
    names: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return Path("runs/growth") / self.names[0].replace(": ", "_").replace(" ", "_")

    @property
    def measure(self) -> str:
        return SEEN if self.recipe == EYE else "all"


def runs() -> list[Run]:
    """All sizes; 150 things at 4 layers stand in two panels."""
    eyes = [Run(EYE, {"things": things}, (f"eye: {things} things",)) for things in THINGS]
    worlds = [Run(ANSWERS, {"things": things}, (f"things: {things} things",)) for things in THINGS[:-1]]
    both = Run(ANSWERS, {}, (f"things: {THINGS[-1]} things", "layers: 4 layers"))
    named = {1: "1 layer", 2: "2 layers"}
    depths = [Run(ANSWERS, {"layers": layers}, (f"layers: {name}",)) for layers, name in named.items()]
    return [*eyes, *worlds, both, *depths]


def curve(run: Run) -> list[list[float]]:
    """[minutes of one core, %] at each evaluation of its log; between two logged steps the minutes are interpolated."""
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text("utf-8").splitlines()]
    logged = [(line["step"], line["cpu_minutes"]) for line in lines if "cpu_minutes" in line]
    looks = [(line["step"], line["evaluation"][run.measure]) for line in lines if "evaluation" in line]
    found = [(float(np.interp(step, *zip(*logged, strict=True))), share) for step, share in looks]
    return [[round(at, 1), round(100 * share, 1)] for at, share in found]


def main() -> None:
    """Run what is missing of the chosen ones, each in a process whose minutes are its own, and write the curves of all
    that are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="those whose name holds this")
    only = parser.parse_args().only
    for run in runs():
        if only in run.names[0] and not (run.folder / DONE[run.recipe]).exists():
            changes = {"output": run.folder, **LENGTH[run.recipe], **run.changes}
            settings = [f"{key}={value}" for key, value in changes.items()]
            subprocess.run([sys.executable, "-m", "huayu", "train", run.recipe, *settings], check=True)
    figures = json.loads(FIGURES.read_text("utf-8"))
    there = [run for run in runs() if (run.folder / "log.jsonl").exists()]
    figures["sizes"] = {name: curve(run) for run in there for name in run.names}
    FIGURES.write_text(lines_of(figures), "utf-8")


def lines_of(figures: dict[str, Any]) -> str:
    """As JSON with one curve a line."""
    parts = {"what": json.dumps(figures["what"])}
    for name in ("curves", "sizes"):
        rows = (f"  {json.dumps(curve)}: {json.dumps(points)}" for curve, points in figures[name].items())
        parts[name] = "{\n" + ",\n".join(rows) + "\n }"
    return "{\n" + ",\n".join(f' "{name}": {text}' for name, text in parts.items()) + "\n}\n"


if __name__ == "__main__":
    main()
