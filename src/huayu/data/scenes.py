"""Paint a scene: things on a coloured ground, varied so that a drawing style never seen can still be known."""

# S side of the picture, n side of a thing's patch, G cells a side
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from huayu.data import world
from huayu.data.drawing import LUMA, bent, faint, inked, outlined, recoloured, redrawn
from huayu.data.layouts import OUTSIDE_SHARE, Scene, Thing, draw_scene, fake_scene, oracle_slots
from huayu.data.sprites import Split, Sprites

__all__ = [
    "GRID",
    "Composed",
    "Scene",
    "Sprites",
    "Thing",
    "compose",
    "draw_scene",
    "fake_scene",
    "oracle_slots",
    "paint",
]

GRID = 8
REDRAWN_SHARE = 0.4  # of things in training that are drawn by another hand
BENT_SHARE = 0.5  # of things in training that have other proportions


class Composed(NamedTuple):
    """pixels (S, S, 3) uint8; cover (8, 8) int16: concept id + 1, 0 nothing, K + 1 outside; fraction (8, 8) float32:
    how much of the cell that thing covers; the scene."""

    pixels: np.ndarray
    cover: np.ndarray
    fraction: np.ndarray
    scene: Scene


def compose(
    rng: np.random.Generator,
    sprites: Sprites,
    *,
    size: int = 64,
    split: Split = "train",
    count: int | None = None,
    pairs: str = "train",
    augment: bool = True,
    outside: float = OUTSIDE_SHARE,
) -> Composed:
    """Draw a scene and paint it. Augmented only when asked for and the split is "train"."""
    scene = draw_scene(rng, sprites, split=split, count=count, pairs=pairs, outside=outside)  # type: ignore[arg-type]
    return paint(rng, sprites, scene, size=size, augment=augment and split == "train")


def paint(
    rng: np.random.Generator, sprites: Sprites, scene: Scene, *, size: int = 64, augment: bool = False
) -> Composed:
    """Paint a scene whose things all have a sprite."""
    colour = np.array(world.BACKGROUNDS[scene.background][2], np.float32) / 255
    if augment:
        colour = np.clip(colour * np.float32(rng.uniform(0.92, 1.06)) + _normal(rng, 0.018, 3), 0, 1)
    picture = np.empty((size, size, 3), np.float32)
    picture[:] = colour
    if augment and rng.random() < 0.7:
        picture *= _gradient(rng, size)
    cover = np.zeros((GRID, GRID), np.int16)
    fraction = np.zeros((GRID, GRID), np.float32)
    things = []
    for thing in scene.things:
        if augment and not sprites.ink[thing.style] and rng.random() < REDRAWN_SHARE:
            thing = thing._replace(redrawn=True)
        things.append(thing)
        patch, solid, left, top = _thing(rng, sprites, thing, colour, size, augment)
        _blend(picture, patch, left, top)
        part = _cells(solid, left, top, size)
        mark = (part > np.maximum(fraction, 0.2)) | (part >= part.max() - 1e-6)
        cover[mark] = thing.concept + 1 if thing.concept >= 0 else len(world.CONCEPTS) + 1
        fraction[mark] = part[mark]
    if augment:
        picture = _finish(rng, picture)
    pixels = (picture.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return Composed(pixels, cover, fraction, scene._replace(things=tuple(things)))


def _normal(rng: np.random.Generator, scale: float, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    strength, angle = rng.uniform(0.01, 0.06), rng.uniform(0, 2 * math.pi)
    if rng.random() < 0.25:
        field = 1 - ramp[:, None] ** 2 - ramp**2
    else:
        field = math.cos(angle) * ramp + math.sin(angle) * ramp[:, None]
    return (1 + strength * field)[..., None].astype(np.float32)


def _thing(
    rng: np.random.Generator, sprites: Sprites, thing: Thing, ground: np.ndarray, size: int, augment: bool
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """A patch (n, n, 4) float32 with premultiplied colour, what it covers (n, n), and where its corner goes."""
    length = thing.size * size
    turn = math.radians(rng.uniform(-18, 18)) if augment and rng.random() < 0.5 else 0.0
    stretch = math.exp(rng.uniform(-0.12, 0.12)) if augment else 1.0
    reach = math.ceil(length * (abs(math.cos(turn)) + abs(math.sin(turn))) * 1.06) + 2
    left, top = round(thing.cx * size - reach / 2), round(thing.cy * size - reach / 2)
    image = sprites.image(thing.sprite, half=length < 0.6 * sprites.pixels.shape[1])
    scale = image.width / length * (1.0 if not turn else 1.04)
    across = (-1 if thing.flip else 1) * scale * stretch
    down = scale / stretch
    cos, sin = math.cos(turn), math.sin(turn)
    dx, dy, middle = left - thing.cx * size, top - thing.cy * size, image.width / 2
    matrix = (
        across * cos,
        across * sin,
        middle + across * (cos * dx + sin * dy),
        -down * sin,
        down * cos,
        middle + down * (-sin * dx + cos * dy),
    )
    raw = image.transform((reach, reach), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    patch = np.frombuffer(raw.tobytes(), np.uint8).reshape(reach, reach, 4).astype(np.float32) / 255
    if augment and rng.random() < BENT_SHARE:
        patch = bent(rng, patch)
    if sprites.ink[thing.style]:
        patch = inked(rng, patch, ground)
    elif augment:
        patch = recoloured(rng, patch)
        patch = redrawn(rng, patch) if thing.redrawn else patch
    solid = patch[..., 3]
    if (augment and rng.random() < 0.15) or faint(patch, ground):
        patch = outlined(patch, rng.uniform(0.0, 0.25) if ground @ LUMA > 0.4 else rng.uniform(0.75, 1.0))
    return patch, solid, left, top


def _blend(picture: np.ndarray, patch: np.ndarray, left: int, top: int) -> None:
    """Paint a premultiplied patch over the picture in place; what lies outside is cut."""
    size, n = len(picture), len(patch)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + n, size), min(top + n, size)
    part = patch[y0 - top : y1 - top, x0 - left : x1 - left]
    picture[y0:y1, x0:x1] = picture[y0:y1, x0:x1] * (1 - part[..., 3:]) + part[..., :3]


def _cells(solid: np.ndarray, left: int, top: int, size: int) -> np.ndarray:
    """How much of each of G x G cells the patch covers, (G, G) float32."""
    canvas = np.zeros((size, size), np.float32)
    n = len(solid)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + n, size), min(top + n, size)
    canvas[y0:y1, x0:x1] = solid[y0 - top : y1 - top, x0 - left : x1 - left]
    return canvas.reshape(GRID, size // GRID, GRID, size // GRID).mean((1, 3))


def _finish(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Blur, border, contrast and grain of the whole picture."""
    size = len(picture)
    if rng.random() < 0.15:
        once = picture.copy()
        once[1:] += picture[:-1]
        once[:-1] += picture[1:]
        once[[0, -1]] += picture[[0, -1]]
        twice = once.copy()
        twice[:, 1:] += once[:, :-1]
        twice[:, :-1] += once[:, 1:]
        twice[:, [0, -1]] += once[:, [0, -1]]
        picture = picture + np.float32(rng.uniform(0.3, 1)) * (twice / 9 - picture)
    if rng.random() < 0.06:
        wide = int(rng.integers(1, 3)) * max(1, size // 64)
        shade = np.float32(rng.random())
        picture[:wide], picture[-wide:], picture[:, :wide], picture[:, -wide:] = shade, shade, shade, shade
    if rng.random() < 0.5:
        picture = (picture - 0.5) * np.float32(rng.uniform(0.9, 1.1)) + np.float32(0.5 + rng.uniform(-0.03, 0.03))
    if rng.random() < 0.5:
        picture = picture + _normal(rng, rng.uniform(0.005, 0.03), *picture.shape)
    return picture
