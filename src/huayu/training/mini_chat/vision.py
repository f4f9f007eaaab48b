"""Stage "vision": pixels to slots, no words. Dense labels come free with composed scenes."""

# N pictures, G² patches, Q queries, C classes, D width

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huayu.data.compose import GRID as PATCH_GRID
from huayu.data.compose import Composed, compose
from huayu.data.scenes import Sprites, oracle_slots
from huayu.models.beit3 import Beit3Model
from huayu.training.loop import Batch
from huayu.training.mini_chat.architecture import (
    NUM_BACKGROUNDS,
    NUM_CLASSES,
    NUM_QUERIES,
    NUM_SLOTS,
    sprites_file,
    vision_config,
)

SIZE = vision_config().image_size


class SlotEye(nn.Module):
    """The encoder with its queries, and heads that exist only in training."""

    def __init__(self) -> None:
        super().__init__()
        config = vision_config()
        self.encoder = Beit3Model(config)
        self.query_tokens = nn.Parameter(torch.randn(NUM_QUERIES, config.hidden_size) * 0.02)
        self.patch_head = nn.Linear(config.hidden_size, NUM_CLASSES)
        self.slot_head = nn.Linear(config.hidden_size, NUM_CLASSES)
        self.background_head = nn.Linear(config.hidden_size, NUM_BACKGROUNDS)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 (N, S, S, 3) → class logits of patches (N, G², C) and slots (N, 16, C), of backgrounds (N, 11)."""
        out = self.encoder(to_values(pixels), self.query_tokens.expand(len(pixels), -1, -1), output_hidden_states=True)
        patches = out.hidden_states[-1][:, 1 : 1 + PATCH_GRID**2]
        slots, background = out.last_hidden_state.split([NUM_SLOTS, 1], dim=1)
        return self.patch_head(patches), self.slot_head(slots), self.background_head(background[:, 0])


def to_values(pixels: Tensor) -> Tensor:
    """uint8 (N, S, S, 3) → float (N, 3, S, S) in [-1, 1], channels-last in memory."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def tensors_of(scenes: list[Composed], sprites: Sprites) -> Batch:
    """Pixels, dense labels and slot fractions of composed scenes."""
    slots = [oracle_slots(c.scene, sprites)[0] for c in scenes]
    return {
        "pixels": torch.from_numpy(np.stack([c.pixels for c in scenes])),
        "cover": torch.from_numpy(np.stack([c.cover for c in scenes])).long().flatten(1),
        "slots": torch.from_numpy(np.stack(slots)),
        "background": torch.tensor([c.scene.background for c in scenes]),
    }


class VisionStage:
    """Learn, for every patch and slot, what covers it. ``data``: folder of the packed drawings."""

    def __init__(self, seed: int = 1, data: str = ".cache/pictograms") -> None:
        self.seed = seed
        self.sprites = Sprites.load(sprites_file(data))
        self._fixed: dict[str, tuple[Batch, list[Composed]]] = {}

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        return SlotEye().to(memory_format=torch.channels_last)

    def batch(self, index: int, size: int) -> Batch:
        rng = np.random.default_rng([self.seed, index])
        return tensors_of([compose(rng, self.sprites, size=SIZE) for _ in range(size)], self.sprites)

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        patches, slots, background = module(batch["pixels"])
        weight = torch.ones(NUM_CLASSES, device=patches.device)
        weight[0] = 0.2
        parts = {
            "patch": F.cross_entropy(patches.float().flatten(0, 1), batch["cover"].flatten(), weight=weight),
            "slot": F.cross_entropy(slots.float().flatten(0, 1), batch["slots"].flatten(0, 1)),
            "background": F.cross_entropy(background.float(), batch["background"]),
        }
        return parts["patch"] + 2 * parts["slot"] + 0.3 * parts["background"], parts

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """Share of things whose cells name them, by split and number of things; the test style stays unseen."""
        figures = {}
        for split, pairs in (("train-eval", "held"), ("train-eval", "train"), ("choose", "any")):
            for count in (1, 3):
                if pairs == "held" and count == 1:
                    continue
                figures[f"{split}/{pairs}/{count}"] = self._named(module, split, pairs, count)
        return figures

    def _named(self, module: nn.Module, split: str, pairs: str, count: int) -> float:
        key = f"{split}/{pairs}/{count}"
        if key not in self._fixed:
            rng = np.random.default_rng(99)
            scenes = [
                compose(rng, self.sprites, size=SIZE, split=split, pairs=pairs, count=count, outside=0.0)  # type: ignore[arg-type]
                for _ in range(256)
            ]
            self._fixed[key] = tensors_of(scenes, self.sprites), scenes
        batch, scenes = self._fixed[key]
        device = next(module.parameters()).device
        logits = torch.cat([module(part.to(device))[1] for part in batch["pixels"].split(64)])
        seen = logits.float().softmax(-1).cpu()
        right = total = 0
        for slots, truth, composed in zip(seen, batch["slots"], scenes, strict=True):
            for thing in composed.scene.things:
                cells = truth[:, thing.concept + 1] > 0.1
                right += int((slots[cells].sum(0)[1:].argmax()) == thing.concept)
                total += 1
        return right / total

    def export(self, module: nn.Module, folder: Path) -> None:
        torch.save(module.state_dict(), folder / "vision.pt")
