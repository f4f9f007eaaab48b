"""How one thing is coloured, redrawn, inked and outlined: its patch, before it is put into a picture."""

# n side of a thing's patch (n, n, 4), float32 in [0, 1] with premultiplied colour

from __future__ import annotations

import math

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def recoloured(rng: np.random.Generator, patch: np.ndarray) -> np.ndarray:
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


def redrawn(rng: np.random.Generator, patch: np.ndarray) -> np.ndarray:
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


def bent(rng: np.random.Generator, patch: np.ndarray) -> np.ndarray:
    """The same thing in other proportions: each pixel is taken from up to a tenth of the side away, and neighbours from
    nearly the same way, by two slow waves an axis."""
    n = len(patch)
    at = np.linspace(0, 1, n, dtype=np.float32)
    places = []
    for base in (at[:, None], at[None, :]):
        shift = np.zeros((n, n), np.float32)
        for _ in range(2):
            down, across = rng.uniform(-1, 1, 2)
            wave = 2 * math.pi * (down * at[:, None] + across * at) + rng.uniform(0, 2 * math.pi)
            shift += np.float32(rng.uniform(0, 0.05)) * np.sin(wave, dtype=np.float32)
        places.append(np.clip((base + shift) * (n - 1), 0, n - 1))
    return _taken(patch, *places)


def _taken(patch: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The patch at real-numbered places (n, n), each between its four pixels."""
    top, left = rows.astype(np.intp), columns.astype(np.intp)
    below, right = np.minimum(top + 1, len(patch) - 1), np.minimum(left + 1, len(patch) - 1)
    y, x = (rows - top)[..., None], (columns - left)[..., None]
    upper = patch[top, left] * (1 - x) + patch[top, right] * x
    lower = patch[below, left] * (1 - x) + patch[below, right] * x
    return (upper * (1 - y) + lower * y).astype(np.float32, copy=False)


def inked(rng: np.random.Generator, patch: np.ndarray, ground: np.ndarray) -> np.ndarray:
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
