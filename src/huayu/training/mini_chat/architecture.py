"""The grid of slots through which an eye speaks to a language model, and where the drawings are."""

from __future__ import annotations

from pathlib import Path

from huayu.data import world
from huayu.data.art_styles import STYLES

SIZE = 128  # pixels a side
EYE_WIDTH, WORD_WIDTH = 192, 256
GRID = 4  # slots a side: query q stands for cell q, the last query for the background and the art style
NUM_SLOTS = GRID * GRID
NUM_QUERIES = NUM_SLOTS + 1
NUM_CLASSES = len(world.CONCEPTS) + 2  # nothing, the concepts, something from outside the world
NUM_BACKGROUNDS = len(world.BACKGROUNDS)
NUM_STYLES = len(STYLES) + 1  # none that can be named, the art styles


def sprites_file(folder: str) -> Path:
    """The packed drawings in ``folder``; packs them when they are not there."""
    from huayu.data import pictograms

    return pictograms.pack(Path(folder))
