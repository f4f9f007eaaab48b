"""Training: one loop for every stage; a recipe is a small file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def main(recipe: str | Path, overrides: Sequence[str] = ()) -> int:
    """Run a recipe (``huayu train RECIPE key=value …``). Returns the exit status."""
    from huayu.training.recipe import run

    run(Path(recipe), overrides)
    return 0
