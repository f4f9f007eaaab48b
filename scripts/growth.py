"""Growth curves: ``python scripts/growth.py`` draws docs/growth.json.

To docs/images/growth.png, the runs of the embedded models, and to docs/images/growth_sizes.png, equal runs at several
sizes (``scripts/growth_sizes.py``).

Needs the extra ``train``.
"""

from __future__ import annotations

import json
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
MODELS = {"eye": "What the eye sees", "answers": "Answers", "canvas": "The painter's canvas"}
SIZES = {
    "eye": "The eye: all of three things right",
    "things": "Answers about ideal slots, by things",
    "layers": "Answers about ideal slots, by layers",
}


def draw(curves: dict[str, list[list[float]]], panels: dict[str, str], picture: Path) -> Path:
    """One panel for each part that has curves: accuracy against minutes of one core. They are called "part: what"."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    panels = {part: title for part, title in panels.items() if any(name.startswith(part + ": ") for name in curves)}
    fig, row = plt.subplots(1, len(panels), figsize=(13 / 3 * len(panels), 5.2), sharey=True, squeeze=False)
    axes = row[0]
    for ax, (part, title) in zip(axes, panels.items(), strict=True):
        for name, points in curves.items():
            if name.startswith(part + ": "):
                minutes, shares = zip(*points, strict=True)
                ax.plot(minutes, shares, marker="o", markersize=3, label=name.removeprefix(part + ": "))
        ax.set(title=title, xlabel="minutes of one core", ylim=(0, 102))
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    axes[0].set_ylabel("%")
    fig.tight_layout()
    fig.savefig(picture, dpi=110)
    return picture


if __name__ == "__main__":
    figures = json.loads((DOCS / "growth.json").read_text("utf-8"))
    print(draw(figures["curves"], MODELS, DOCS / "images" / "growth.png"))
    if figures.get("sizes"):
        print(draw(figures["sizes"], SIZES, DOCS / "images" / "growth_sizes.png"))
