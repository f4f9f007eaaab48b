"""Growth curves of the embedded models: ``python scripts/growth.py`` draws docs/growth.json to docs/images/growth.png.

Needs the extra ``train``.
"""

from __future__ import annotations

import json
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
PANELS = {"eye": "What the eye sees", "answers": "Answers", "canvas": "The painter's canvas"}


def draw(figures: Path = DOCS / "growth.json", picture: Path = DOCS / "images" / "growth.png") -> Path:
    """One panel for each part: accuracy against minutes of one core."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    curves = json.loads(figures.read_text("utf-8"))["curves"]
    fig, axes = plt.subplots(1, len(PANELS), figsize=(13, 5.2), sharey=True)
    for ax, (part, title) in zip(axes, PANELS.items(), strict=True):
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
    print(draw())
