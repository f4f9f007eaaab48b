"""A picture of a training log."""

from __future__ import annotations

import json
from pathlib import Path


def draw_curves(log: Path, picture: Path) -> None:
    """Plot losses (left) and evaluation figures (right) of ``log`` (JSON lines) into a PNG, if matplotlib is there."""
    try:
        from matplotlib.figure import Figure
    except ImportError:  # an extra: the log itself is always written
        return
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axis, title, series in (
        (left, "loss", _series(r | {} for r in rows if "loss" in r)),
        (right, "evaluation", _series({"step": r["step"], **r["evaluation"]} for r in rows if "evaluation" in r)),
    ):
        for name, (steps, values) in series.items():
            axis.plot(steps, values, label=name, linewidth=1)
        axis.set_title(title)
        axis.set_xlabel("step")
        if 0 < len(series) <= 16:
            axis.legend(fontsize=6)
    figure.savefig(picture, dpi=110)


def _series(rows: object) -> dict[str, tuple[list[int], list[float]]]:
    series: dict[str, tuple[list[int], list[float]]] = {}
    for row in rows:  # type: ignore[attr-defined]
        for name, value in row.items():
            if name not in ("step", "cpu_minutes"):
                steps, values = series.setdefault(name, ([], []))
                steps.append(row["step"])
                values.append(value)
    return series
