"""Take what was learned in a smaller world into this one: ``python -m huayu.training.mini_chat.grow FAMILY OLD NEW``.

``OLD`` and ``NEW`` are folders of runs, each with its vocabulary and the stages' exports ``vision/vision.pt`` and
``language/language.pt``; written are ``NEW/grown/vision.pt`` and ``NEW/grown/language.pt``, to ``start`` from. Things
and words keep their rows, wherever they stand now; what is new begins as in any new model. Things may only be added
after those that were there.
"""

# C classes (nothing, the things, a stranger), V vocabulary

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from huayu.errors import ModelError
from huayu.training.mini_chat.architecture import NUM_CLASSES
from huayu.training.mini_chat.families import VOCABULARIES, Family, open_family
from huayu.training.mini_chat.language import Reader
from huayu.training.mini_chat.vision import SlotEye

COMPUTED = "names"  # what ends so follows from the world and the vocabulary


def grown(module: nn.Module, old: dict[str, Tensor], before: Family, now: Family) -> dict[str, Tensor]:
    """The state of a new ``module`` of the family ``now`` with all that an ``old`` state, of ``before``, knows.

    Raises ModelError for the state of something else.
    """
    classes = next((len(value) for name, value in old.items() if name.endswith(("thing.weight", "words.classes"))), 0)
    things = {row: row if row < classes - 1 else NUM_CLASSES - 1 for row in range(classes)}
    moved = {(classes, NUM_CLASSES): things, (len(before), len(now)): same_words(before, now)}
    state = {name: value.clone() for name, value in module.state_dict().items()}
    for name, value in old.items():
        if name.endswith(COMPUTED):
            continue
        new = state.get(name)
        rows = None if new is None else moved.get((len(value), len(new))) if value.ndim else None
        if new is not None and rows and new.shape[1:] == value.shape[1:]:
            new[list(rows.values())] = value[list(rows)]
        elif new is not None and new.shape == value.shape:
            new.copy_(value)
        else:
            raise ModelError(f"{name} has no place in this model.", f"此模型中没有 {name}。")
    return state


def same_words(old: Family, new: Family) -> dict[int, int]:
    """Number of each word in one vocabulary → in the other, for the words that both have."""
    there = {word: number for number, word in enumerate(new.words())}
    return {number: there[word] for number, word in enumerate(old.words()) if word in there}


def grow(family: str, old: Path, new: Path) -> None:
    """Write the exports of the run ``old`` as starts for the run ``new``."""
    before, now = (open_family(family, str(folder / VOCABULARIES[family])) for folder in (old, new))
    if not before.file.exists():
        raise ModelError(f"There is no {before.file}.", f"没有 {before.file}。")
    (new / "grown").mkdir(parents=True, exist_ok=True)
    for stage, module in (("vision", SlotEye(now)), ("language", Reader(now))):
        state = torch.load(old / stage / f"{stage}.pt", weights_only=True)
        torch.save(grown(module, state, before, now), new / "grown" / f"{stage}.pt")


if __name__ == "__main__":
    grow(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
