"""Stage "vision": pixels to things and slots, no words. Where each thing is comes free with composed scenes."""

# N pictures, O things of a picture (padded), G² patches, Q queries, C classes, D width

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huayu.data import world
from huayu.data.layouts import MOST_THINGS, OUTSIDE_SHARE
from huayu.data.scenes import GRID as PATCH_GRID
from huayu.data.scenes import Composed, Sprites, compose, oracle_slots
from huayu.errors import ModelError
from huayu.models.stem import StemmedPatches
from huayu.training.loop import Batch
from huayu.training.mini_chat.architecture import (
    EYE_WIDTH,
    GRID,
    NUM_BACKGROUNDS,
    NUM_CLASSES,
    NUM_SLOTS,
    NUM_STYLES,
    SIZE,
    sprites_file,
)
from huayu.training.mini_chat.families import Family, open_family
from huayu.training.mini_chat.rows import style_ids


class SlotEye(nn.Module):
    """The eye, and heads that exist only in training."""

    def __init__(self, family: Family) -> None:
        super().__init__()
        self.family, self.eye = family, family.eye()
        self.heads = SightHeads(EYE_WIDTH, family.linear_projector)
        self.background_head = nn.Linear(EYE_WIDTH, NUM_BACKGROUNDS)
        self.style_head = nn.Linear(EYE_WIDTH, NUM_STYLES)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N, S, S, 3) → states of patches (N, G², D) and of queries (N, Q, D)."""
        return self.family.see(self.eye, pixels)


class SightHeads(nn.Module):
    """Heads that exist only in training: what a thing is, by its patches; what a slot holds, by its query.

    ``linear``: the shares of what a slot holds must be linear in the query's state, too.
    """

    def __init__(self, width: int, linear: bool) -> None:
        super().__init__()
        self.thing = nn.Linear(width, NUM_CLASSES)
        self.slot = nn.Linear(width, NUM_CLASSES)
        self.shares = nn.Linear(width, NUM_CLASSES) if linear else None
        if self.shares is not None:
            nn.init.zeros_(self.shares.weight)

    def losses(self, patches: Tensor, queries: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Cross entropy of things (N, O) by their pooled patches, and of the slots' shares (N, 16, C).

        Where shares must be linear, their squared error, too.
        """
        share = batch["where"] / batch["where"].sum(-1, keepdim=True).clamp(min=1e-6)
        things = self.thing(share @ patches.float())
        slots = self.slot(queries[:, :NUM_SLOTS]).float()
        parts = {
            "thing": F.cross_entropy(things.flatten(0, 1), batch["things"].flatten(), ignore_index=-1),
            "slot": F.cross_entropy(slots.flatten(0, 1), batch["slots"].flatten(0, 1)),
        }
        if self.shares is not None:
            off = self.shares(queries[:, :NUM_SLOTS]).float() - batch["slots"]
            parts["shares"] = off.square().sum(-1).mean()
        return parts


def sight_loss(parts: Mapping[str, Tensor]) -> Tensor:
    """The losses of :class:`SightHeads` in one."""
    return parts["thing"] + 2 * parts["slot"] + 2 * parts.get("shares", torch.zeros(()))


def tensors_of(scenes: list[Composed], sprites: Sprites) -> Batch:
    """Pixels, what the things are and which patches they cover, slot shares, backgrounds and art styles."""
    fine = np.stack([oracle_slots(c.scene, sprites, PATCH_GRID)[0] for c in scenes])
    things = np.full((len(scenes), MOST_THINGS), -1)
    where = np.zeros((len(scenes), MOST_THINGS, PATCH_GRID**2), np.float32)
    for i, composed in enumerate(scenes):
        for j, thing in enumerate(composed.scene.things):
            things[i, j] = thing.concept + 1 if thing.concept >= 0 else NUM_CLASSES - 1
            where[i, j] = fine[i, :, things[i, j]]
    cells = fine.reshape(len(scenes), GRID, PATCH_GRID // GRID, GRID, PATCH_GRID // GRID, NUM_CLASSES).mean((2, 4))
    return {
        "pixels": torch.from_numpy(np.stack([c.pixels for c in scenes])),
        "things": torch.from_numpy(things),
        "where": torch.from_numpy(where),
        "slots": torch.from_numpy(cells.reshape(len(scenes), NUM_SLOTS, NUM_CLASSES)),
        "background": torch.tensor([c.scene.background for c in scenes]),
        "style": style_ids([c.scene for c in scenes]),
    }


def take_stem(eye: nn.Module, model: str) -> None:
    """Give an eye the stem of a model. Raises ModelError when that has none of the same sizes."""
    from huayu.chat import load_chat

    stems = [
        next((module.stem for module in whole.modules() if isinstance(module, StemmedPatches)), nn.Module())
        for whole in (load_chat(model, device="cpu").backend.model, eye)  # type: ignore[attr-defined]
    ]
    theirs, ours = (stem.state_dict() for stem in stems)
    if {name: value.shape for name, value in theirs.items()} != {name: value.shape for name, value in ours.items()}:
        raise ModelError(f"{model} has no stem like this one.", f"{model} 没有同样的卷积主干。")
    stems[1].load_state_dict(theirs)


class VisionStage:
    """Learn what each thing is and what each slot holds.

    ``data``: folder of the packed drawings; ``start``: an earlier export to go on from; ``outside``: share of things
    that the world has no word for; ``family``, ``things``: as of the language stage; ``stem``: a model of this
    project (name or folder) whose stem to begin with where there is no ``start``.
    """

    def __init__(
        self,
        family: str = "viscpm_chat",
        seed: int = 1,
        data: str = ".cache/pictograms",
        start: str = "",
        stem: str = "",
        outside: float = OUTSIDE_SHARE,
        things: int = len(world.CONCEPTS),
    ) -> None:
        self.family, self.stem = open_family(family), stem
        self.seed, self.start, self.outside = seed, start, outside
        self.sprites = Sprites.load(sprites_file(data)).known(things)
        self._fixed: dict[str, tuple[Batch, list[Composed]]] = {}

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        eye = SlotEye(self.family)
        if self.start:
            eye.load_state_dict(torch.load(self.start, weights_only=True))
        elif self.stem:
            take_stem(eye.eye, self.stem)
        return eye.to(memory_format=torch.channels_last)

    def batch(self, index: int, size: int) -> Batch:
        rng = np.random.default_rng([self.seed, index])
        scenes = [compose(rng, self.sprites, size=SIZE, outside=self.outside) for _ in range(size)]
        return tensors_of(scenes, self.sprites)

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        patches, queries = module(batch["pixels"])
        eye = module.module if hasattr(module, "module") else module
        parts = eye.heads.losses(patches, queries, batch)
        for name, head in (("background", eye.background_head), ("style", eye.style_head)):
            parts[name] = F.cross_entropy(head(queries[:, NUM_SLOTS]).float(), batch[name])
        return sight_loss(parts) + 0.3 * (parts["background"] + parts["style"]), parts

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
        states = torch.cat([module(part.to(device))[1] for part in batch["pixels"].split(64)])
        logits = module.heads.slot(states[:, :NUM_SLOTS])
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
