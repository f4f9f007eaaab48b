"""A handful of drawings made on the spot: discs, squares and rings in colours, in one style per role and one in ink."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from huayu.data import world
from huayu.data.sprites import Sprites

STYLES = ["plain", "inked", "other", "unseen"]
ROLES = ["train", "train", "choose", "test"]
KEYS = (
    "dog",
    "cat",
    "apple",
    "banana",
    "car",
    "rose",
    "star",
    "key",
    "pizza",
    "horse",
    "bus",
    "grapes",
    "fish",
    "cake",
)


def drawing(number: int, ink: bool) -> np.ndarray:
    """One (80, 80, 4) drawing; no two numbers look alike."""
    picture = Image.new("RGBA", (80, 80))
    pen = ImageDraw.Draw(picture)
    colour = (0, 0, 0, 255) if ink else ((number * 67) % 256, (number * 151) % 256, (number * 29) % 256, 255)
    box = (2, 2 + number % 5 * 4, 77, 77 - number % 3 * 6)
    if ink:
        pen.ellipse(box, outline=colour, width=6)
    elif number % 2:
        pen.rectangle(box, fill=colour)
    else:
        pen.ellipse(box, fill=colour)
    return np.array(picture)


@cache
def some_sprites() -> Sprites:
    """Sprites of 14 concepts in four styles, with strangers for training and for the test."""
    ids = world.concept_ids()
    pixels, rows = [], []
    for style in range(len(STYLES)):
        for number, key in enumerate(KEYS):
            pixels.append(drawing(number, style == 1))
            rows.append((ids[key], style, False))
        for number in (40, 41):
            pixels.append(drawing(number, style == 1))
            rows.append((world.OUTSIDE, style, ROLES[style] == "test"))
    concept, style_of, reserved = (np.array(column) for column in zip(*rows, strict=True))
    return Sprites.build(np.stack(pixels), concept, style_of, reserved, STYLES, ROLES, [False, True, False, False])
