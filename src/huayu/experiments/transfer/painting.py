"""Stage "paint": words to a rough picture, from English captions only; the language model stays as it is.

It is the part of huayu-paint-mini that decides what is painted, with its autoencoder, which has seen no words.
"""

# N captions, T tokens, D width, C channels and H W sides of a latent, P side of a picture

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from huayu import embedded
from huayu.data import paintings, world
from huayu.data.scenes import Scene, Sprites, Thing, paint
from huayu.experiments.transfer.scenes import SIZE, SmallWorld
from huayu.experiments.transfer.settings import Setting
from huayu.experiments.transfer.talk import LANGUAGES
from huayu.models.cpm_bee import BeeVocabulary, CpmBeeForCausalLM, collate, pack
from huayu.models.viscpm_paint import CanvasHead, ConditioningHead
from huayu.training.loop import Batch

CHANNELS, SIDE, HIDDEN = 48, 8, 512  # of the autoencoder's latents; of the canvas
FORMS = {
    "en": ("a {thing} on a {colour} background", "{thing}, {colour} background", "{colour} background, {thing}"),
    "zh": ("{colour}背景上的{thing}", "{thing}，{colour}背景", "{colour}背景，{thing}"),
}


class Order(NamedTuple):
    """A thing (its number in the small world) on a colour."""

    thing: int
    ground: int


class RoughPainter(nn.Module):
    """What is trained here: from the language model's states to a latent."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = ConditioningHead(width, width)
        self.canvas = CanvasHead(width, CHANNELS, SIDE, HIDDEN)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """(N, T, D) and (N, T), true for the caption's own tokens → (N, C, H, W)."""
        canvas: Tensor = self.canvas(self.head(states), mask)[0]
        return canvas


class PaintStage:
    """Learn to paint what captions in ``languages`` ask for."""

    def __init__(
        self, setting: Setting, vocabulary: BeeVocabulary, sprites: Sprites, language: CpmBeeForCausalLM, seed: int,
        languages: tuple[str, ...] = ("en",),
    ) -> None:  # fmt: skip
        self.vocabulary, self.sprites, self.seed, self.languages = vocabulary, sprites, seed, languages
        self.small = SmallWorld(setting.things)
        self.language = language.eval().requires_grad_(False)
        orders = [Order(t, g) for t in range(setting.things) for g in range(len(world.BACKGROUNDS))]
        self.held = [o for o in orders if paintings.held_background(self.small.concepts[o.thing], o.ground)]
        self.shown = [o for o in orders if o not in self.held]
        self._states: dict[str, Tensor] = {}

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        return RoughPainter(self.language.config.hidden_size)

    def caption(self, order: Order, language: str, form: int) -> str:
        """What asks for a picture."""
        concept, (en, zh, _) = world.CONCEPTS[self.small.concepts[order.thing]], world.BACKGROUNDS[order.ground]
        thing, colour = (concept.en, en) if language == "en" else (concept.zh, zh)
        return FORMS[language][form].format(thing=thing, colour=colour)

    @torch.no_grad()
    def states(self, captions: list[str]) -> list[Tensor]:
        """Last states (T, D) of the language model for each caption; remembered, as they never change."""
        new = sorted({text for text in captions if text not in self._states}, key=len)
        for start in range(0, len(new), 64):
            part = new[start : start + 64]
            inputs = collate([pack({"input": text}, self.vocabulary) for text in part], self.vocabulary)
            states = self.language.model(**inputs, use_cache=False).last_hidden_state
            for text, row, mask in zip(part, states, inputs["attention_mask"].bool(), strict=True):
                self._states[text] = row[mask].clone()
        return [self._states[text] for text in captions]

    def batch(self, index: int, size: int) -> Batch:
        orders, captions = self.draw(index, size)
        return {**self._padded(captions), "latents": self.latents[[self._row(o) for o in orders]]}

    def draw(self, index: int, size: int) -> tuple[list[Order], list[str]]:
        """The orders of batch ``index`` and their captions."""
        rng = np.random.default_rng([self.seed, index])
        orders = [self.shown[int(i)] for i in rng.integers(len(self.shown), size=size)]
        captions = [
            self.caption(order, self.languages[int(rng.integers(len(self.languages)))], int(rng.integers(3)))
            for order in orders
        ]
        return orders, captions

    def _padded(self, captions: list[str]) -> Batch:
        states = self.states(captions)
        mask = nn.utils.rnn.pad_sequence([torch.ones(len(s), dtype=torch.bool) for s in states], batch_first=True)
        return {"states": nn.utils.rnn.pad_sequence(states, batch_first=True), "mask": mask}

    def _row(self, order: Order) -> int:
        return order.thing * len(world.BACKGROUNDS) + order.ground

    @cached_property
    def pictures(self) -> np.ndarray:
        """(things, 1, colours, P, P, 3) uint8: the picture that each order means."""
        rng = np.random.default_rng(0)
        found = np.empty((len(self.small.concepts), 1, len(world.BACKGROUNDS), SIZE, SIZE, 3), np.uint8)
        for number, concept in enumerate(self.small.concepts):
            row = int(self.sprites.pools["train", concept][0][0])
            thing = Thing(concept, int(self.sprites.style[row]), row, 0.5, 0.5, 0.84)
            for ground in range(len(world.BACKGROUNDS)):
                found[number, 0, ground] = paint(rng, self.sprites, Scene(ground, (thing,)), size=SIZE).pixels
        return found

    @cached_property
    def vae(self) -> nn.Module:
        """The painter's autoencoder."""
        from diffusers import AutoencoderKL

        folder = embedded.folder("huayu-paint-mini") / "vae"
        return AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32).eval().requires_grad_(False)

    @cached_property
    def latents(self) -> Tensor:
        """(things · colours, C, H, W)."""
        pixels = torch.from_numpy(self.pictures.reshape(-1, SIZE, SIZE, 3)).permute(0, 3, 1, 2).float() / 127.5 - 1
        return torch.cat([self.vae.encode(part).latent_dist.mean for part in pixels.split(32)])

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        loss = (module(batch["states"], batch["mask"]) - batch["latents"]).square().mean()
        return loss, {"canvas": loss}

    @torch.no_grad()
    def measure(self, module: nn.Module) -> dict[str, dict[str, float]]:
        """Language → share of pictures nearest to the right thing, and with the right colour, on pairs never shown.

        "zh shifted": the states of Chinese captions moved by the difference of the two languages' means.
        """
        captions = {k: [self.caption(order, k, form) for order in self.held for form in range(3)] for k in LANGUAGES}
        means = {k: torch.cat(self.states(texts)).mean(0) for k, texts in captions.items()}
        away = means["en"] - means["zh"]
        return {
            "en": self._judged(module, captions["en"]),
            "zh": self._judged(module, captions["zh"]),
            "zh shifted": self._judged(module, captions["zh"], away),
        }

    def _judged(self, module: nn.Module, captions: list[str], shift: Tensor | float = 0.0) -> dict[str, float]:
        from huayu.evaluation.paint_judges import background_of

        pixels = []
        for start in range(0, len(captions), 32):
            batch = self._padded(captions[start : start + 32])
            values = self.vae.decode(module(batch["states"] + shift, batch["mask"])).sample.clamp(-1, 1)
            pixels.append(((values + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
        painted = np.concatenate(pixels)
        orders = [order for order in self.held for _ in range(3)]
        grounds = [order.ground for order in orders]
        near = paintings.nearest(painted, self.pictures, grounds)
        return {
            "thing": float(np.mean([rank[0] == order.thing for rank, order in zip(near, orders, strict=True)])),
            "ground": float(np.mean(background_of(painted) == np.array(grounds))),
        }

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        return {f"{language}/thing": cell["thing"] for language, cell in self.measure(module).items()}

    def export(self, module: nn.Module, folder: Path) -> None:
        torch.save(module.state_dict(), folder / "painter.pt")
