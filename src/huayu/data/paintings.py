"""The pictures that the embedded painter learns: one thing, in one art style, on one colour, 64 × 64 pixels.

Of each there are variants, between which a seed chooses: as different artists draw it, and mirrored.
"""

# C concepts, S styles, G background colours, V variants, P side of a picture

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from huayu.data import pictograms, world
from huayu.data.art_styles import DEFAULT_STYLE, STYLES
from huayu.data.drawing import faint, outlined
from huayu.data.sprites import Sprites

SIDE = 64
THING = 54  # pixels a side that the thing itself takes
WHITE = 0  # the background when none is named
VARIANTS = 8  # of a picture: twice as many as a style may have artists
IMAGINED = ("concepts", "styles", "ink", "pixels")  # (N,), (N,), (N,), (N, S, S, 4) uint8, premultiplied


@cache
def held_style(concept: int, style: int) -> bool:
    """Whether a thing is never shown in a style in training: a tenth of the pairs, none in the default style."""
    return style != DEFAULT_STYLE and _tenth(f"{world.CONCEPTS[concept].key}/{STYLES[style].packages[0]}")


@cache
def held_background(concept: int, background: int) -> bool:
    """Whether a thing is never shown on a colour in training: a tenth of the pairs, none on white."""
    return background != WHITE and _tenth(f"{world.CONCEPTS[concept].key} on {world.BACKGROUNDS[background][0]}")


def _tenth(text: str) -> bool:
    return hashlib.sha256(text.encode()).digest()[0] % 10 == 0


def load(folder: str | Path) -> np.ndarray:
    """All pictures, (C, S, G, V, P, P, 3) uint8; packs the drawings in ``folder`` first when they are not there."""
    packages = tuple(package for style in STYLES for package in style.packages)
    sprites = Sprites.load(pictograms.pack(Path(folder)), styles=packages)
    return render(sprites)


def render(sprites: Sprites) -> np.ndarray:
    """(C, S, G, V, P, P, 3) uint8: the variants are as each of the style's artists draws it, then these mirrored,
    and again. So the first two differ as much as they can. Raises ValueError when nobody of a style draws a concept."""
    shape = (len(world.CONCEPTS), len(STYLES), len(world.BACKGROUNDS), VARIANTS, SIDE, SIDE, 3)
    found = np.empty(shape, np.uint8)
    for concept in range(len(found)):
        for style in range(len(STYLES)):
            rows = drawings_of(sprites, concept, style)
            drawings = [(sprites.image(row, half=False), sprites.ink[sprites.style[row]]) for row in rows]
            _fill(found[concept, style], drawings)
    return found


def completed(pictures: np.ndarray, file: str | Path) -> np.ndarray:
    """A copy of ``pictures`` as of :func:`load`, in which the pairs of thing and style that are held back are as the
    stage "restyle" imagined them in ``file``, who never saw them either."""
    found = pictures.copy()
    with np.load(file) as imagined:
        for concept, style, ink, pixels in zip(*(imagined[name] for name in IMAGINED), strict=True):
            if not held_style(concept, style):
                raise ValueError(f"{file} was made for another world")
            _fill(found[concept, style], [(Image.frombytes("RGBX", pixels.shape[1::-1], pixels.tobytes()), ink)])
    return found


def _fill(pictures: np.ndarray, drawings: list[tuple[Image.Image, bool]]) -> None:
    """Put a thing's drawings in one style, premultiplied, each with whether it is in ink, into (G, V, P, P, 3)."""
    for background, (_, _, colour) in enumerate(world.BACKGROUNDS[: len(pictures)]):
        drawn = [_on(*drawing, np.array(colour, np.float32) / 255) for drawing in drawings]
        drawn += [picture[:, ::-1] for picture in drawn]
        for variant in range(pictures.shape[1]):
            pictures[background, variant] = drawn[variant % len(drawn)]


def drawings_of(sprites: Sprites, concept: int, style: int) -> list[int]:
    """The rows of a thing's first drawing, its most usual one, by each artist of a style who draws it."""
    artists = [sprites.style == sprites.styles.index(package) for package in STYLES[style].packages]
    rows = [np.flatnonzero(artist & (sprites.concept == concept)) for artist in artists]
    if not any(map(len, rows)):
        raise ValueError(f"{STYLES[style].packages[0]} does not draw {world.CONCEPTS[concept].key}")
    return [int(drawn[0]) for drawn in rows if len(drawn)]


def _on(drawing: Image.Image, ink: bool, ground: np.ndarray) -> np.ndarray:
    """One drawing on a colour (3,) in [0, 1]; ink is dark on light, outlines appear where the rim would vanish."""
    small = drawing.resize((THING, THING), Image.Resampling.BICUBIC)
    patch = np.zeros((SIDE, SIDE, 4), np.float32)
    edge = (SIDE - THING) // 2
    patch[edge : edge + THING, edge : edge + THING] = np.asarray(small, np.float32) / 255
    light = float(ground @ np.array([0.299, 0.587, 0.114], np.float32)) > 0.4
    if ink:
        patch[..., :3] = patch[..., 3:] * (0.1 if light else 0.95)
    elif faint(patch, ground):
        patch = outlined(patch, 0.45 if light else 0.8)
    return ((patch[..., :3] + (1 - patch[..., 3:]) * ground).clip(0, 1) * 255).round().astype(np.uint8)


def nearest(pixels: np.ndarray, pictures: np.ndarray, grounds: list[int], tiles: int = 16) -> list[list[int]]:
    """For each of pixels (N, P, P, 3) the concepts by their nearest real picture on the same colour, nearest first.

    ``pictures`` as of :func:`load`, or without variants; pictures are compared as ``tiles`` × ``tiles`` mean colours.
    """
    ranks = []
    known: dict[int, np.ndarray] = {}
    for picture, ground in zip(pixels, grounds, strict=True):
        if ground not in known:
            known[ground] = _tiled(pictures[:, :, ground], tiles).reshape(len(pictures), -1, tiles**2, 3)
        distance = np.square(known[ground] - _tiled(picture, tiles)).sum((-1, -2)).min(1)
        ranks.append(np.argsort(distance).tolist())
    return ranks


def nearest_style(pixels: np.ndarray, pictures: np.ndarray, shown: list[tuple[int, int, int]]) -> list[int]:
    """For each of pixels (N, P, P, 3) the style whose real picture of that concept on that colour is nearest."""
    found = []
    for picture, (concept, _, ground) in zip(pixels, shown, strict=True):
        away = pictures[concept, :, ground].astype(np.float32) - picture
        found.append(int(np.square(away).sum((-3, -2, -1)).reshape(len(away), -1).min(1).argmin()))
    return found


def _tiled(pixels: np.ndarray, tiles: int) -> np.ndarray:
    side = pixels.shape[-2] // tiles
    shape = (*pixels.shape[:-3], tiles, side, tiles, side, 3)
    return pixels.reshape(shape).astype(np.float32).mean((-4, -2)).reshape(*pixels.shape[:-3], tiles**2, 3)
