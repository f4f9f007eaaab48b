"""Rows in parts of like length, and slots as unsure as an eye's."""

# B rows, T tokens, S slots, C classes

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from huayu.data.art_styles import common_style
from huayu.data.dialogues import Turn
from huayu.data.scenes import Scene
from huayu.training.loop import Batch

_PER_TOKEN = (
    "input_ids",
    "token_subscripts",
    "attention_mask",
    "is_context",
    "segment_ids",
    "num_segments",
    "position_ids",
    "image_token_index",
    "labels",
    "mention",
    "naming",
    "asked",
)


def like_lengths(batch: Batch, rows: int = 16) -> Iterator[tuple[Batch, Tensor]]:
    """Parts of right-padded rows sorted by length, without needless padding, with their share of the labels.

    The batch itself stays a fair draw; batches of like lengths would each teach a few skills and unteach the others.
    """
    labels = (batch["labels"] != -100).sum()
    for start in range(0, len(batch["labels"]), rows):
        part = {name: value[start : start + rows] for name, value in batch.items()}
        width = int(part["attention_mask"].sum(1).max())
        part = {name: value[..., :width] if name in _PER_TOKEN else value for name, value in part.items()}
        yield part, (part["labels"] != -100).sum() / labels


def some_turn(rng: np.random.Generator, turns: Sequence[Turn]) -> int:
    """A dialogue is met at any of its turns, at the first most often."""
    return int(rng.integers(len(turns))) if rng.random() < 0.6 else 0


def style_ids(scenes: Sequence[Scene]) -> Tensor:
    """(N,): 1 + the art style in which all of a scene is drawn, 0 where it has no name."""
    styles = [common_style(scene) for scene in scenes]
    return torch.tensor([0 if style is None else 1 + style for style in styles])


def disturb(rng: np.random.Generator, slots: np.ndarray) -> np.ndarray:
    """Make ideal slots (S, C) as unsure as a real eye's: fainter, with some mass on a wrong class."""
    slots = slots.copy()
    things = slots[:, 1:] * rng.uniform(0.75, 1.1, (len(slots), 1)).astype(np.float32)
    if rng.random() < 0.3:
        wrong = rng.integers(things.shape[1])
        cells = things.sum(1) * np.float32(rng.uniform(0, 0.3))
        things *= 1 - np.float32(rng.uniform(0, 0.3))
        things[:, wrong] += cells
    slots[:, 1:] = things
    total = things.sum(1, keepdims=True)
    slots[:, 1:] /= np.maximum(total, 1)
    slots[:, :1] = 1 - np.minimum(total, 1)
    return slots
