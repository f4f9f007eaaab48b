"""What more things and more layers cost: ``python scripts/growth_sizes.py`` trains the same stages at several sizes.

About an hour of one core. A run that was stopped goes on; one that is done is not run again. The curves go into
docs/growth.json; ``python scripts/growth.py`` draws them. Needs the extra ``train`` and the drawings
(``python -m huayu.data.pictograms``).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

from huayu.training import main as train

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "growth.json"
EYE, ANSWERS = "recipes/mini_chat/vision.toml", "recipes/mini_glm/language.toml"
THINGS, LAYERS = (30, 75, 150), (2, 4, 8)
SEEN = "train-eval/held/3"  # all of three things that training never showed together


class Run(NamedTuple):
    """One size: how it is called in the figures, its recipe and what differs from it."""

    name: str
    recipe: str
    changes: dict[str, int]

    @property
    def folder(self) -> Path:
        return Path("runs/growth") / self.name.replace(": ", "_").replace(" ", "_")

    @property
    def measure(self) -> str:
        return SEEN if self.recipe == EYE else "all"


def runs() -> list[Run]:
    """All sizes; 150 things at 4 layers stand in two curves and are run once."""
    eyes = [Run(f"eye: {things} things", EYE, {"things": things}) for things in THINGS]
    worlds = [Run(f"answers: {things} things", ANSWERS, {"things": things}) for things in THINGS]
    depths = [Run(f"answers: {layers} layers", ANSWERS, {"layers": layers}) for layers in LAYERS if layers != 4]
    return eyes + worlds + depths


def curve(run: Run) -> list[list[float]]:
    """[minutes of one core, %] at each evaluation of its log."""
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text("utf-8").splitlines()]
    minutes = {line["step"]: line["cpu_minutes"] for line in lines if "cpu_minutes" in line}
    found = [(minutes[line["step"]], line["evaluation"][run.measure]) for line in lines if "evaluation" in line]
    return [[round(at, 1), round(100 * share, 1)] for at, share in found]


def main() -> None:
    """Run what is missing of the chosen ones, and write the curves of all that are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="those whose name holds this")
    only = parser.parse_args().only
    for run in runs():
        if only in run.name and not (run.folder / "curves.png").exists():
            steps = (
                {"steps": 800, "evaluate_every": 200} if run.recipe == EYE else {"steps": 600, "evaluate_every": 150}
            )
            changes = {"output": run.folder, **steps, **run.changes}
            train(run.recipe, [f"{key}={value}" for key, value in changes.items()])
    figures = json.loads(FIGURES.read_text("utf-8"))
    figures["sizes"] = {run.name: curve(run) for run in runs() if (run.folder / "log.jsonl").exists()}
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
