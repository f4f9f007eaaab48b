"""Stage "eye": what stands in each cell and on which colour, as class numbers. No word of any language is in it."""

# N pictures, P patches + 1, Q queries, C classes, D width

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huayu.data import world
from huayu.data.scenes import Sprites
from huayu.experiments.transfer.scenes import CELLS, Facts, SmallWorld
from huayu.experiments.transfer.settings import GRID, NUM_QUERIES, Setting
from huayu.models.beit3 import Beit3Model
from huayu.models.beit3.modeling import UNUSED_POSITIONS
from huayu.training.loop import Batch


def look(encoder: Beit3Model, queries: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
    """The encoder from its embedded patches (N, P, D) on: states of patches (N, P, D) and of queries (N, Q, D)."""
    last = encoder.vision_positions.num_embeddings
    seen = patches + encoder.vision_positions.weight[UNUSED_POSITIONS:last]
    asked = queries + encoder.query_positions.weight[UNUSED_POSITIONS : UNUSED_POSITIONS + len(queries)]
    x = torch.cat([seen, asked.expand(len(patches), -1, -1)], dim=1)
    for layer in encoder.layers:
        x = layer(x, patches.shape[1])
    x = encoder.norm(x, patches.shape[1])
    return x[:, : patches.shape[1]], x[:, patches.shape[1] :]


def to_values(pixels: Tensor) -> Tensor:
    """uint8 (N, S, S, 3) → float (N, 3, S, S) in [-1, 1], channels-last in memory."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


class Eye(nn.Module):
    """The encoder with its queries, and heads that exist only here."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        config = setting.vision_config()
        self.encoder = Beit3Model(config)
        self.query_tokens = nn.Parameter(torch.randn(NUM_QUERIES, config.hidden_size) * 0.02)
        self.thing = nn.Linear(config.hidden_size, setting.things + 1)
        self.ground = nn.Linear(config.hidden_size, len(world.BACKGROUNDS))
        self._find_places()

    @torch.no_grad()
    def _find_places(self) -> None:
        """At its start each query attends to the patches of its cell: places have codes, and like attends to like."""
        encoder = self.encoder
        at = (torch.arange(GRID) + 0.5) / GRID
        x, y = at.repeat(GRID), at.repeat_interleave(GRID)
        waves = torch.stack([f(math.pi * n * p) for p in (x, y) for n in (1, 2, 3) for f in (torch.sin, torch.cos)], 1)
        code = waves @ torch.randn(waves.shape[1], encoder.config.hidden_size) * 0.3
        encoder.vision_positions.weight[-len(code) :] = code
        for cell in range(CELLS):
            near = (x - (cell + 0.5) / CELLS).abs() < 0.5 / CELLS
            for query in (2 * cell, 2 * cell + 1):
                encoder.query_positions.weight[UNUSED_POSITIONS + query] = code[near].mean(0)
        for layer in encoder.layers:
            layer.attention.k_proj.vision.weight.copy_(layer.attention.q_proj.query.weight)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, S, S, 3) → classes of the patches (N, P - 1, C), of the cells (N, 2 · cells, C), of the ground."""
        patches, queries = look(self.encoder, self.query_tokens, self.encoder.patch_embedding(to_values(pixels)))
        return self.thing(patches[:, 1:]), self.thing(queries[:, :-1]), self.ground(queries[:, -1])


class EyeStage:
    """Learn what stands where."""

    def __init__(self, setting: Setting, sprites: Sprites, seed: int = 1) -> None:
        self.setting, self.sprites, self.seed = setting, sprites, seed
        self.small = SmallWorld(setting.things)
        self._probes = self._drawn(np.random.default_rng(99), min(256, setting.pool), held=True)

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        return Eye(self.setting).to(memory_format=torch.channels_last)

    def batch(self, index: int, size: int) -> Batch:
        return self._drawn(np.random.default_rng([self.seed, index]), size)

    def _drawn(self, rng: np.random.Generator, size: int, held: bool = False) -> Batch:
        scenes = [self.small.draw(rng, held=held) for _ in range(size)]
        painted = [self.small.picture(rng, self.sprites, facts) for facts in scenes]
        number = np.zeros(len(world.CONCEPTS) + 1, np.int64)  # of a concept + 1
        number[[concept + 1 for concept in self.small.concepts]] = range(1, len(self.small.concepts) + 1)
        return {
            "pixels": torch.from_numpy(np.stack([composed.pixels for composed in painted])),
            "patches": torch.from_numpy(number[np.stack([composed.cover.ravel() for composed in painted])]),
            "cells": torch.from_numpy(number[self._cells(scenes)]),
            "ground": torch.tensor([facts.ground for facts in scenes]),
        }

    def _cells(self, scenes: Sequence[Facts]) -> np.ndarray:
        """(N, 2 · cells) concepts + 1, 0 for nothing; both queries of a cell learn the same."""
        cells = np.zeros((len(scenes), CELLS), np.int64)
        for row, facts in zip(cells, scenes, strict=True):
            for concept, cell in facts.things:
                row[cell] = 1 + concept
        return cells.repeat(2, 1)

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        patches, cells, ground = module(batch["pixels"])
        parts = {
            "patch": F.cross_entropy(patches.flatten(0, 1), batch["patches"].flatten()),
            "cell": F.cross_entropy(cells.flatten(0, 1), batch["cells"].flatten()),
            "ground": F.cross_entropy(ground, batch["ground"]),
        }
        return parts["patch"] + parts["cell"] + 0.3 * parts["ground"], parts

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """Share of things named, and of scenes wholly right, on new pairs of things."""
        _, things, ground = module(self._probes["pixels"])
        right = things.argmax(-1) == self._probes["cells"]
        there = self._probes["cells"] > 0
        whole = right.all(1) & (ground.argmax(-1) == self._probes["ground"])
        return {"thing": float(right[there].float().mean()), "scene": float(whole.float().mean())}

    def export(self, module: nn.Module, folder: Path) -> None:
        torch.save(module.state_dict(), folder / "eye.pt")
