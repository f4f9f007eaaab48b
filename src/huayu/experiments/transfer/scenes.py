"""The small world of the experiment: a few everyday things, where they stand, and pictures of them.

A :class:`Facts` says all that is true of a picture, without pixels and without words.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from huayu.data import world
from huayu.data.scenes import Composed, Scene, Sprites, Thing, paint

SIZE = 64  # pixels
# Things whose names are one word, in an order that mixes the kinds, so that a smaller world has several too.
THINGS = (
    *("dog", "apple", "car", "rose", "cat", "banana", "bus", "key"),
    *("horse", "lemon", "train", "tree", "pizza", "guitar", "hat", "star"),
    *("fish", "pear", "airplane", "cactus", "cake", "piano", "shoe", "moon"),
    *("penguin", "umbrella", "trumpet", "crown", "camera", "clock", "elephant", "strawberry"),
    *("rabbit", "lion", "truck", "bicycle", "tulip", "carrot", "bread", "hammer"),
    *("owl", "frog", "rocket", "house", "cookie", "violin", "drum", "chair"),
    *("bee", "snail", "corn", "mushroom", "egg", "door", "bed", "dress"),
    *("robot", "balloon", "bell", "book", "heart", "pencil", "cloud", "sun"),
)
STYLES = ("noto", "twemoji", "fluent-emoji-flat")
CELLS = 3  # side by side: left, middle, right
MIDDLE = 1
COUNT_SHARES = (0.45, 0.3, 0.25)  # of pictures with one, two, three things


class Facts(NamedTuple):
    """Background colour, and (concept, cell) of each thing in the order of the cells."""

    ground: int
    things: tuple[tuple[int, int], ...]

    @property
    def concepts(self) -> list[int]:
        """What is there, in order."""
        return [concept for concept, _ in self.things]


class SmallWorld:
    """The first ``count`` things of :data:`THINGS`; what stands together in training, and what never does."""

    def __init__(self, count: int) -> None:
        self.concepts = [world.concept_ids()[key] for key in THINGS[:count]]

    @cached_property
    def has_held_pairs(self) -> bool:
        """Whether any two things are kept apart in training."""
        return any(world.held_pair(a, b) for a in self.concepts for b in self.concepts)

    def draw(self, rng: np.random.Generator, *, held: bool = False, count: int | None = None) -> Facts:
        """A random scene; ``held``: several things only as no training scene shows them together."""
        count = count or int(rng.choice(len(COUNT_SHARES), p=COUNT_SHARES)) + 1
        held = held and self.has_held_pairs
        while True:
            chosen = rng.choice(self.concepts, count, replace=False).tolist()
            apart = any(world.held_pair(a, b) for a in chosen for b in chosen)
            if count == 1 or apart == held:
                break
        cells = sorted(rng.choice(CELLS, count, replace=False).tolist())
        return Facts(int(rng.integers(len(world.BACKGROUNDS))), tuple(zip(chosen, cells, strict=True)))

    def picture(self, rng: np.random.Generator, sprites: Sprites, facts: Facts) -> Composed:
        """Drawings of the things in their cells, varied in size, place and side."""
        things = []
        for concept, cell in facts.things:
            pool = sprites.pools["train", concept]
            rows = pool[int(rng.integers(len(pool)))]
            row = int(rows[int(rng.integers(len(rows)))])
            large = len(facts.things) == 1 and cell == MIDDLE
            size = float(rng.uniform(0.4, 0.95) if large else rng.uniform(0.31, 0.37))
            free = (1 - size) / 2
            x = (cell + 0.5) / CELLS + (0.0 if large else float(rng.uniform(-0.01, 0.01)))
            y = 0.5 + float(rng.uniform(-free, free))
            things.append(Thing(concept, int(sprites.style[row]), row, x, y, size, bool(rng.random() < 0.3)))
        return paint(rng, sprites, Scene(facts.ground, tuple(things)), size=SIZE)
