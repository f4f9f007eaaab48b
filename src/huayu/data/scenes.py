"""Paint a scene: things on a coloured ground, varied so that a drawing style never seen can still be known."""

# S side of the picture, n side of a thing's patch, G cells a side
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from huayu.data import world
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
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


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
    if sprites.ink[thing.style]:
        patch = _inked(rng, patch, ground)
    elif augment:
        patch = _recoloured(rng, patch)
        patch = _redrawn(rng, patch) if thing.redrawn else patch
    solid = patch[..., 3]
    if (augment and rng.random() < 0.15) or faint(patch, ground):
        patch = outlined(patch, rng.uniform(0.0, 0.25) if ground @ LUMA > 0.4 else rng.uniform(0.75, 1.0))
    return patch, solid, left, top


def _recoloured(rng: np.random.Generator, patch: np.ndarray) -> np.ndarray:
    """Other saturation, hue, gain and brightness: one matrix on the premultiplied colour."""
    grey = 1.0 if rng.random() < 0.08 else rng.uniform(-0.4, 0.45)
    matrix = (1 - grey) * np.eye(3) + grey * np.outer(LUMA, np.ones(3))
    if rng.random() < 0.4:
        angle = rng.normal(0, 0.25)
        axis = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
        matrix = matrix @ (np.eye(3) + math.sin(angle) * axis + (1 - math.cos(angle)) * axis @ axis)
    matrix = (matrix * rng.uniform(0.75, 1.2, 3)).astype(np.float32)
    shift = np.float32(rng.uniform(-0.1, 0.1))
    alpha = patch[..., 3:]
    colour = patch[..., :3] @ matrix + shift * alpha
    return np.concatenate([np.clip(colour, 0, alpha), alpha], 2)


def _redrawn(rng: np.random.Generator, patch: np.ndarray) -> np.ndarray:
    """The same thing by another hand: in few colours, as lines on paper, or in few colours within dark lines."""
    alpha = patch[..., 3:]
    colour = patch[..., :3] / np.maximum(alpha, 0.05)
    flat, lined = ((True, False), (False, True), (True, True))[int(rng.integers(3))]
    paper = colour
    if flat:
        steps = int(rng.integers(2, 5))
        paper = np.round(colour * steps) / steps
    elif rng.random() < 0.5:
        paper = np.full(3, rng.uniform(0.75, 1, 3))
    if lined:
        lines = _lines(colour @ LUMA * alpha[..., 0] + (1 - alpha[..., 0]) * 0.5, rng.uniform(4, 9))
        lines = (_spread(lines) if rng.random() < 0.5 else lines)[..., None]
        wash = rng.uniform(0, 0.6)
        paper = (paper * (1 - wash) + wash) * (1 - lines) + rng.uniform(0, 0.25) * lines
    patch = np.concatenate([paper * alpha, alpha], 2, dtype=np.float32)
    return outlined(patch, rng.uniform(0, 0.25)) if lined and rng.random() < 0.5 else patch


def _lines(light: np.ndarray, strength: float) -> np.ndarray:
    """How dark a pen would draw each pixel of (n, n): where the light changes."""
    edge = np.abs(np.diff(light, axis=0, prepend=light[:1])) + np.abs(np.diff(light, axis=1, prepend=light[:, :1]))
    return np.clip(edge * strength - 0.3, 0, 1)


def _inked(rng: np.random.Generator, patch: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """A drawing in one ink: any colour far from the ground's, on paper of its own or on the ground."""
    filled, lines = patch[..., :1], patch[..., 3:]
    bright = float(ground @ LUMA)
    ink = rng.uniform(0, 0.35, 3) if bright > 0.4 else rng.uniform(0.7, 1, 3)
    if rng.random() < 0.5:  # on paper the lines must be dark whatever the ground is
        ink = rng.uniform(0, 0.3, 3)
        paper = rng.uniform(0.6, 1, 3) if bright <= 0.8 else rng.uniform(0.4, 0.95, 3)
        colour = filled * (1 - lines) * paper + lines * ink
        alpha = np.maximum(filled, lines)
        return np.concatenate([colour, alpha], 2, dtype=np.float32)
    return np.concatenate([lines * ink, lines], 2, dtype=np.float32)


def _spread(mask: np.ndarray) -> np.ndarray:
    """Each pixel takes the largest of itself and its four neighbours."""
    out = mask.copy()
    np.maximum(out[1:], mask[:-1], out=out[1:])
    np.maximum(out[:-1], mask[1:], out=out[:-1])
    np.maximum(out[:, 1:], mask[:, :-1], out=out[:, 1:])
    np.maximum(out[:, :-1], mask[:, 1:], out=out[:, :-1])
    return out


def faint(patch: np.ndarray, ground: np.ndarray) -> bool:
    """Whether most of the thing's rim has nearly the colour of the ground."""
    alpha = patch[..., 3]
    inner = (alpha > 0.6) & (_spread(1 - alpha) > 0.4)
    rim = patch[inner]
    if not len(rim):
        return False
    distance = np.abs(rim[:, :3] / rim[:, 3:] - ground).max(1)
    return bool((distance < 0.16).mean() > 0.4)


def outlined(patch: np.ndarray, shade: float) -> np.ndarray:
    """With a thin line of a grey `shade` around it."""
    around = _spread(patch[..., 3])[..., None]
    line = np.maximum(around - patch[..., 3:], 0)
    return np.concatenate([patch[..., :3] + line * shade, patch[..., 3:] + line], 2, dtype=np.float32)


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
