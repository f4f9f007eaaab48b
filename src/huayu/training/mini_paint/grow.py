"""Take a painter of a smaller world, or of a narrower canvas, into this one.

``python -m huayu.training.mini_paint.grow OLD NEW``: folders of runs. ``OLD`` has its ``vocab.txt`` and
``denoiser/painter.pt``; written is ``NEW/grown/words.pt``, to ``start`` the stage "canvas" from, which then draws what
the old one drew. The UNet is the same: ``start=OLD/denoiser/painter.pt`` for the stage "denoiser".
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from huayu.models.cpm_bee import BeeVocabulary
from huayu.training.mini_paint.architecture import vocabulary_of
from huayu.training.mini_paint.canvas import Words, words_of

EMBEDDINGS = "text_encoder.embed_tokens.weight"


def grown(words: Words, old: dict[str, Tensor], before: BeeVocabulary, now: BeeVocabulary) -> dict[str, Tensor]:
    """The state of new ``words`` with all that an ``old`` state knows: tokens keep their rows, wherever they stand now;
    new units of the canvas begin as in any new model, and nobody listens to them yet."""
    there = {token: row for row, token in enumerate(now.tokens)}
    rows = {row: there[token] for row, token in enumerate(before.tokens) if token in there}
    state = {name: value.clone() for name, value in words.state_dict().items()}
    for name, value in old.items():
        if name == EMBEDDINGS:
            state[name][list(rows.values())] = value[list(rows)]
        else:
            if value.ndim == 2:
                state[name][:, value.shape[1] :] = 0
            state[name][tuple(map(slice, value.shape))] = value
    return state


def grow(old: Path, new: Path) -> None:
    """Write the words of the run ``old`` as a start for the run ``new``."""
    before, now = BeeVocabulary.from_file(old / "vocab.txt"), vocabulary_of(str(new / "vocab.txt"))
    state = words_of(str(old / "denoiser" / "painter.pt"))
    (new / "grown").mkdir(parents=True, exist_ok=True)
    variants = len(state.get("canvas.variant.weight", ()))
    torch.save(grown(Words(len(now), variants), state, before, now), new / "grown" / "words.pt")


if __name__ == "__main__":
    grow(*map(Path, sys.argv[1:3]))
