"""The packed drawings in memory, sorted by who may see them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from huayu.data import world
from huayu.data.world import OUTSIDE

Split = Literal["train", "choose", "test", "train-eval"]


@dataclass(frozen=True)
class Sprites:
    """Packed drawings: pixels (N, P, P, 4) uint8, straight alpha; concept, style, reserved (N,); names per style."""

    pixels: np.ndarray
    concept: np.ndarray
    style: np.ndarray
    reserved: np.ndarray
    styles: tuple[str, ...]
    roles: tuple[str, ...]
    ink: tuple[bool, ...]

    @classmethod
    def load(
        cls, path: str | Path, roles: tuple[str, ...] | None = None, styles: tuple[str, ...] | None = None
    ) -> Sprites:
        """Read the file of `pictograms.pack`, all of it or some roles or styles. ValueError: made by another world."""
        with np.load(path) as file:
            if str(file["version"]) != world.version():
                raise ValueError(f"{path} was packed from another version of the world; pack it again")
            names, role_of = file["styles"].tolist(), file["roles"].tolist()
            keep = [
                (roles is None or role in roles) and (styles is None or name in styles)
                for name, role in zip(names, role_of, strict=True)
            ]
            rows = np.array(keep)[file["style"]]
            return cls.build(
                file["pixels"][rows],
                file["concept"][rows],
                file["style"][rows],
                file["reserved"][rows],
                names,
                role_of,
                file["ink"].tolist(),
            )

    @classmethod
    def build(
        cls,
        pixels: np.ndarray,
        concept: np.ndarray,
        style: np.ndarray,
        reserved: np.ndarray,
        styles: list[str],
        roles: list[str],
        ink: list[bool],
    ) -> Sprites:
        """From arrays. Drawings in ink, which are all black, get their filled silhouette as the red channel."""
        pixels = pixels.copy()
        for row in np.flatnonzero(np.array(ink)[style]):
            pixels[row, ..., 0] = silhouette(pixels[row, ..., 3])
        return cls(pixels, concept, style, reserved, tuple(styles), tuple(roles), tuple(ink))

    def known(self, things: int) -> Sprites:
        """Without the drawings of all but the world's first ``things`` things; strangers stay."""
        rows = self.concept < things
        return replace(
            self,
            pixels=self.pixels[rows],
            concept=self.concept[rows],
            style=self.style[rows],
            reserved=self.reserved[rows],
        )

    @cached_property
    def pools(self) -> dict[tuple[str, int], list[np.ndarray]]:
        """(split, concept) -> for each style that draws it, the rows of its drawings."""
        pools: dict[tuple[str, int], list[np.ndarray]] = {}
        for split in ("train", "choose", "test", "train-eval"):
            role = "train" if split == "train-eval" else split
            right = np.array([r == role for r in self.roles])[self.style] & (self.reserved == (split == "test"))
            right |= np.array([r == role for r in self.roles])[self.style] & (self.concept != OUTSIDE)
            for concept in range(OUTSIDE, len(world.CONCEPTS)):
                rows = np.flatnonzero(right & (self.concept == concept))
                if len(rows):
                    pools[split, concept] = [rows[self.style[rows] == style] for style in np.unique(self.style[rows])]
        return pools

    @cached_property
    def drawn(self) -> dict[str, np.ndarray]:
        """split -> the concepts (without OUTSIDE) that its styles draw."""
        return {
            split: np.array(sorted(c for s, c in self.pools if s == split and c != OUTSIDE))
            for split in ("train", "choose", "test", "train-eval")
        }

    def image(self, row: int, half: bool) -> Image.Image:
        """The drawing with premultiplied colour as a four-channel PIL image, whole or at half its size."""
        found = self._images.get((row, half))
        if found is None:
            pixels = self.pixels[row].astype(np.float32)
            if not self.ink[self.style[row]]:
                pixels[..., :3] *= pixels[..., 3:] / 255
            if half:
                side = len(pixels) // 2
                pixels = pixels.reshape(side, 2, side, 2, 4).mean((1, 3))
            data = pixels.round().astype(np.uint8)
            found = self._images[row, half] = Image.frombytes("RGBX", data.shape[1::-1], data.tobytes())
        return found

    @cached_property
    def _images(self) -> dict[tuple[int, bool], Image.Image]:
        return {}

    @cached_property
    def integrals(self) -> np.ndarray:
        """(N, 17, 17) float32: running sums of alpha over 16 x 16 tiles of each drawing; 1 is the whole square."""
        count, side = len(self.pixels), self.pixels.shape[1] // 16
        alpha = np.where(np.array(self.ink)[self.style][:, None, None], self.pixels[..., 0], self.pixels[..., 3])
        tiles = alpha.reshape(count, 16, side, 16, side).mean((2, 4), dtype=np.float32) / 255 / 256
        table = np.zeros((count, 17, 17), np.float32)
        table[:, 1:, 1:] = tiles.cumsum(1).cumsum(2)
        return table


def silhouette(alpha: np.ndarray) -> np.ndarray:
    """Alpha (P, P) uint8 with the holes filled that the border of the picture does not reach."""
    opaque = np.pad(np.where(alpha > 100, 255, 0).astype(np.uint8), 1)
    padded = Image.fromarray(opaque).copy()  # a copy, because the array's memory is not writable
    ImageDraw.floodfill(padded, (0, 0), 128)
    return np.maximum(alpha, np.where(np.asarray(padded)[1:-1, 1:-1] == 0, 255, 0).astype(np.uint8))
