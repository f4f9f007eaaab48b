"""Layouts of things on a coloured ground, and what an ideal eye sees of them on a coarse grid.

A `Scene` is drawn first, without pixels; `huayu.data.scenes` paints it. So language can be learned from `oracle_slots`
of scenes that follow the same law as the painted ones. Lengths are fractions of the picture's side.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np

from huayu.data import world
from huayu.data.sprites import Split, Sprites
from huayu.data.world import OUTSIDE

CELL = 0.25  # things whose centres are this far apart are told apart by left, right, top and bottom
COUNT_SHARES = (0.42, 0.24, 0.20, 0.14)  # of scenes with one, two, three, four things
MOST_THINGS = len(COUNT_SHARES)
OUTSIDE_SHARE = 0.1  # of things


class Thing(NamedTuple):
    """One drawing in a scene. `sprite` is a row of the packed file, -1 when nobody painted it; `redrawn`: its picture
    was changed so much that it is in no style that has a name."""

    concept: int
    style: int
    sprite: int
    cx: float
    cy: float
    size: float
    flip: bool = False
    redrawn: bool = False

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        half = self.size / 2
        return self.cx - half, self.cy - half, self.cx + half, self.cy + half


class Scene(NamedTuple):
    """A background colour and the things on it, ordered from the left, and downwards where they share a column."""

    background: int
    things: tuple[Thing, ...]


def draw_scene(
    rng: np.random.Generator,
    sprites: Sprites,
    *,
    split: Split = "train",
    count: int | None = None,
    pairs: Literal["train", "held", "any"] = "train",
    outside: float = OUTSIDE_SHARE,
) -> Scene:
    """A random layout of 1-4 different things that do not overlap.

    `pairs`: "train" never shows a held pair together; "held" shows two to four things with at least one held pair.
    """
    if count is None:
        count = int(rng.choice(4, p=COUNT_SHARES)) + 1
        if pairs == "held":
            count = max(2, count)
    concepts = _choose(rng, sprites.drawn[split], count, pairs)
    if outside and (split, OUTSIDE) in sprites.pools and pairs != "held":
        concepts = [OUTSIDE if rng.random() < outside else concept for concept in concepts]
        if concepts.count(OUTSIDE) > 1:  # one stranger is enough
            first = concepts.index(OUTSIDE)
            spare = _choose(rng, sprites.drawn[split], count, pairs)
            concepts = [*spare[:first], OUTSIDE, *spare[first + 1 :]]
    things = []
    for concept, (cx, cy, size) in zip(concepts, place(rng, count), strict=True):
        pool = sprites.pools[split, concept]
        rows = pool[rng.integers(len(pool))]
        sprite = int(rows[rng.integers(len(rows))])
        things.append(Thing(concept, int(sprites.style[sprite]), sprite, cx, cy, size, bool(rng.random() < 0.3)))
    return Scene(int(rng.integers(len(world.BACKGROUNDS))), in_order(things))


fake_scene = draw_scene  # the layout alone, for learning language without pixels


def in_order(things: list[Thing]) -> tuple[Thing, ...]:
    """Things from left to right, and from top to bottom where they stand in one column."""
    return tuple(sorted(things, key=lambda thing: thing.cx + 0.5 * thing.cy))


def _choose(rng: np.random.Generator, drawn: np.ndarray, count: int, pairs: str) -> list[int]:
    chosen: list[int] = []
    if pairs == "held":
        available = set(drawn.tolist())
        held = [pair for pair in world.held_pairs() if available.issuperset(pair)]
        chosen = list(held[int(rng.integers(len(held)))])
        rng.shuffle(chosen)
    while len(chosen) < count:
        concept = int(drawn[rng.integers(len(drawn))])
        if concept in chosen or (pairs == "train" and any(world.held_pair(concept, other) for other in chosen)):
            continue
        chosen.append(concept)
    return chosen


def place(rng: np.random.Generator, count: int) -> list[tuple[float, float, float]]:
    """Centres and sizes of `count` boxes inside the unit square that do not overlap, in a clear order.

    One box is anything from small to the whole picture. The order of `in_order` never hangs on a hair.
    """
    if count == 1:
        size = rng.uniform(0.22, 0.4) if rng.random() < 0.15 else rng.uniform(0.4, 0.96)
        margin = (1 - size) / 2
        if rng.random() < 0.3:  # photographs are mostly centred
            return [(0.5, 0.5, float(size))]
        return [(0.5 + float(rng.uniform(-margin, margin)), 0.5 + float(rng.uniform(-margin, margin)), float(size))]
    largest = 0.52 if count == 2 else 0.46
    while True:
        base = rng.uniform(0.27, largest)
        boxes: list[tuple[float, float, float]] = []
        for u, v, w in rng.random((30, 3)).tolist():
            size = min(largest, max(0.25, base * (0.85 + 0.3 * w)))
            x, y = size / 2 + u * (1 - size), size / 2 + v * (1 - size)
            key = x + 0.5 * y
            if all(
                (abs(x - a) > 0.47 * (size + s) or abs(y - b) > 0.47 * (size + s)) and abs(key - a - 0.5 * b) > 0.08
                for a, b, s in boxes
            ):
                boxes.append((x, y, size))
                if len(boxes) == count:
                    return boxes


def oracle_slots(scene: Scene, sprites: Sprites | None = None, grid: int = 4) -> tuple[np.ndarray, int]:
    """What an ideal eye sees: ((grid * grid, K + 2) float32 fractions of none, the K concepts, outside; background id).

    Cells are row-major; each row sums to one. With sprites, fractions follow the drawings' alpha; without, discs.
    """
    width = len(world.CONCEPTS) + 2
    slots = np.zeros((grid, grid, width), np.float32)
    edges = np.arange(grid + 1, dtype=np.float32) / grid
    for thing in scene.things:
        table = sprites.integrals[thing.sprite] if sprites is not None and thing.sprite >= 0 else _disc()
        left, top, _, _ = thing.box
        u = ((edges - left) / thing.size).clip(0, 1)
        if thing.flip:
            table, u = table[:, -1:] - table[:, ::-1], u
        covered = _between(table, ((edges - top) / thing.size).clip(0, 1), u) * (thing.size**2 * grid**2)
        slots[..., thing.concept + 1 if thing.concept >= 0 else width - 1] += covered
    total = slots.sum(-1, keepdims=True)
    slots /= np.maximum(total, 1)
    slots[..., 0] = 1 - np.minimum(total[..., 0], 1)
    return slots.reshape(grid * grid, width), scene.background


def _between(table: np.ndarray, v: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Mass of a running-sum table between neighbouring edges v (rows) and u (columns), both in [0, 1]."""
    last = len(table) - 1

    def rows(t: np.ndarray, e: np.ndarray) -> np.ndarray:
        low = np.minimum((e * last).astype(int), last - 1)
        part = (e * last - low)[:, None]
        return t[low] * (1 - part) + t[low + 1] * part

    at = rows(rows(table, v).T, u).T
    return np.maximum(np.diff(np.diff(at, axis=0), axis=1), 0)


def _disc(side: int = 16) -> np.ndarray:
    at = (np.arange(side) + 0.5) / side - 0.5
    inside = (np.hypot(at[:, None], at) < 0.45) / side**2
    table = np.zeros((side + 1, side + 1), np.float32)
    table[1:, 1:] = inside.cumsum(0).cumsum(1)
    return table


def extreme(scene: Scene, side: str) -> Thing | None:
    """The thing farthest to the "left", "right", "top" or "bottom", or None when it is not clear by a whole cell.

    A thing that is alone counts where it stands in the outer third.
    """
    if len(scene.things) < 2:
        at = region(scene.things[0])
        outer = {"left": (0, 0), "right": (0, 2), "top": (1, 0), "bottom": (1, 2)}[side]
        return scene.things[0] if at is not None and at[outer[0]] == outer[1] else None
    sign = -1 if side in ("right", "bottom") else 1
    order = sorted(scene.things, key=lambda t: sign * (t.cx if side in ("left", "right") else t.cy))
    first, second = order[:2]
    gap = first.cx - second.cx if side in ("left", "right") else first.cy - second.cy
    return first if abs(gap) >= CELL else None


def region(thing: Thing) -> tuple[int, int] | None:
    """(column, row), each 0-2, of the thing's centre in thirds of the picture; None near a border between two."""
    found = []
    for at in (thing.cx, thing.cy):
        nearest = min((1 / 3, 2 / 3), key=lambda line: abs(line - at))
        if abs(nearest - at) < 0.06:
            return None
        found.append(math.floor(at * 3 - 1e-6))
    return found[0], found[1]
