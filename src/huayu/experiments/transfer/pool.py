"""The training pictures of all arms: drawn once, and taken through the part of the eye that stays fixed."""

# N pictures, P patches + 1, D width

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from huayu.data.scenes import Sprites
from huayu.experiments.transfer.eye import Eye, to_values
from huayu.experiments.transfer.scenes import Facts, SmallWorld
from huayu.experiments.transfer.settings import Setting

TRAINING, TESTING, CHOOSING = 11, 12, 13  # seeds


@dataclass(frozen=True)
class Pool:
    """Scenes with their embedded patches (N, P, D) in half precision."""

    scenes: list[Facts]
    patches: Tensor

    @classmethod
    def load(cls, folder: Path) -> Pool:
        """As :meth:`save` wrote it."""
        rows = json.loads((folder / "scenes.json").read_text())
        scenes = [Facts(ground, tuple((c, cell) for c, cell in things)) for ground, things in rows]
        return cls(scenes, torch.load(folder / "patches.pt", weights_only=True))

    def save(self, folder: Path) -> None:
        """Write both files; the scenes last, so that they tell that all is there."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.patches, folder / "patches.pt")
        (folder / "scenes.json").write_text(json.dumps(self.scenes))


@torch.no_grad()
def embedded(eye: Eye, pixels: np.ndarray) -> Tensor:
    """(N, S, S, 3) uint8 → (N, P, D) float16."""
    return eye.encoder.patch_embedding(to_values(torch.from_numpy(pixels))).half()


def drawn(setting: Setting, sprites: Sprites, eye: Eye, seed: int, size: int, held: bool = False) -> Pool:
    """``size`` scenes by chance; ``held``: with things never seen together in training."""
    rng = np.random.default_rng(seed)
    small = SmallWorld(setting.things)
    scenes = [small.draw(rng, held=held) for _ in range(size)]
    parts = []
    for start in range(0, size, 64):
        pixels = np.stack([small.picture(rng, sprites, facts).pixels for facts in scenes[start : start + 64]])
        parts.append(embedded(eye, pixels))
    return Pool(scenes, torch.cat(parts))
