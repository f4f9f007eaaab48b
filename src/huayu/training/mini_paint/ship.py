"""Put a trained painter into the package: ``python -m huayu.training.mini_paint.ship MODEL EVALUATION CARD``.

``MODEL`` is the folder of the pipeline, ``EVALUATION`` that of ``huayu evaluate mini-paint --output``, ``CARD`` the
text of the model card with marks such as ``{table}`` to be filled. The evaluation's pictures go beside the card.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open

from huayu import embedded
from huayu.checkpoints.atomic import write_text
from huayu.checkpoints.checksums import FILE, write_checksums

NAME = "huayu-paint-mini"


def weights(folder: Path) -> tuple[int, int]:
    """Numbers and bytes of all weights below a folder."""
    numbers = size = 0
    for path in folder.rglob("*.safetensors"):
        size += path.stat().st_size
        with safe_open(path, "pt") as file:
            numbers += sum(int(np.prod(file.get_slice(key).get_shape())) for key in file.keys())  # noqa: SIM118
    return numbers, size


def ship(model: Path, evaluation: Path, card: Path) -> Path:
    """Replace the embedded painter; returns the file of checksums."""
    folder = embedded.folder(NAME)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(model, folder)
    shutil.copytree(evaluation / "sheets", folder / "sheets")
    figures = json.loads((evaluation / "table.json").read_text("utf-8"))
    numbers, size = weights(folder)
    parts = {
        "{table}": (evaluation / "table.md").read_text("utf-8"),
        "{parameters}": f"{numbers / 1e6:.1f} M",
        "{megabytes}": f"{size / 1e6:.1f} MB",
        "{seconds}": f"{figures['seconds']:.2f} s",
        "{different}": f"{figures['seeds']['different']:.1f}",
        "{apart}": f"{figures['seeds']['apart']:.0f}",
    }
    text = card.read_text("utf-8")
    for mark, value in parts.items():
        if mark not in text:
            raise ValueError(f"the card has no {mark}")
        text = text.replace(mark, value)
    write_text(folder / "README.md", text)
    write_checksums(folder)
    return folder / FILE


if __name__ == "__main__":
    print(ship(*map(Path, sys.argv[1:4])))
