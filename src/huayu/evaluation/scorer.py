"""A small judge of pictures: which thing is it? It has seen real pictograms only."""

# N pictures, P side of a picture, K concepts

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from huayu.data import world
from huayu.data.scenes import Sprites, compose

STEPS, BATCH = 1000, 48


class Scorer(nn.Sequential):
    """Pixels (N, 3, P, P) in [-1, 1] → scores (N, K)."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        width = 3
        for wider in (32, 64, 128, 192):
            layers += [nn.Conv2d(width, wider, 3, 2, 1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
            layers += [nn.Conv2d(wider, wider, 3, 1, 1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
            width = wider
        super().__init__(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(width * 16, world.FIRST))

    @torch.no_grad()
    def ranks(self, pixels: np.ndarray) -> list[list[int]]:
        """uint8 (N, P, P, 3) → the concepts of each, likeliest first."""
        scores = torch.cat([self(values_of(part)) for part in torch.from_numpy(pixels).split(128)])
        return scores.argsort(1, descending=True).tolist()


def values_of(pixels: Tensor) -> Tensor:
    """uint8 (N, P, P, 3) → float (N, 3, P, P) in [-1, 1], channels-last in memory."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def trained(sprites: Sprites, file: Path | None, steps: int = STEPS, seed: int = 9) -> Scorer:
    """The scorer of ``file``; trained on scenes of one thing in the training styles, and kept there, when it is not."""
    torch.manual_seed(seed)
    scorer = Scorer().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if file is not None and file.exists():
        scorer.load_state_dict(torch.load(file, weights_only=True))
        return scorer.eval()
    optimizer = torch.optim.AdamW(scorer.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    rng = np.random.default_rng(seed)
    for _ in track(range(steps), "scorer", console=Console(stderr=True)):
        pixels, labels = real(rng, sprites, "train", BATCH)
        loss = F.cross_entropy(scorer(values_of(torch.from_numpy(pixels))), labels, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(scorer.state_dict(), file)
    return scorer.eval()


def real(rng: np.random.Generator, sprites: Sprites, split: str, count: int) -> tuple[np.ndarray, Tensor]:
    """Pictures (N, P, P, 3) of one real drawing each, and which things they show (N,)."""
    scenes = [compose(rng, sprites, split=split, count=1, outside=0.0) for _ in range(count)]  # type: ignore[arg-type]
    return np.stack([s.pixels for s in scenes]), torch.tensor([s.scene.things[0].concept for s in scenes])
