"""Stage "canvas": words to a rough picture, straight from the text encoder. It decides what is painted."""

# N captions, T tokens, D width, C channels of a latent, H W its sides

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from huayu.data import paintings, world
from huayu.data.art_styles import STYLES
from huayu.data.paint_captions import Order, caption, disturbed, draw_order, plain
from huayu.models.cpm_bee import BeeVocabulary, CpmBeeModel, collate, pack
from huayu.models.viscpm_paint import CanvasHead, ConditioningHead
from huayu.models.viscpm_paint.conditioning import variant_of
from huayu.training.loop import Batch
from huayu.training.mini_paint.architecture import (
    CHANNELS,
    GRID,
    GROUNDS,
    HIDDEN,
    WIDTH,
    text_config,
    to_pixels,
    to_values,
    vocabulary_of,
)

# Scaled linears and embeddings have unit variance and are divided by sqrt(width) when used, so their steps are larger.
SCALED_RATE = 16.0
QUIET = 0.2  # blocks must not drown the embeddings at first
EMPTY = 0.04  # of captions say nothing: what guidance leads away from
STRANGE = 0.12  # of captions have a word that means nothing here


class Words(nn.Module):
    """All that reads: the text encoder, the conditioning head and the canvas."""

    def __init__(self, vocab_size: int, variants: int = 0) -> None:
        super().__init__()
        self.text_encoder = CpmBeeModel(text_config(vocab_size))
        self.conditioning_head = ConditioningHead(WIDTH, WIDTH)
        self.canvas = CanvasHead(WIDTH, CHANNELS, GRID, HIDDEN, variants, GROUNDS)
        nn.init.zeros_(self.text_encoder.position_bias.weight)
        for layer in self.text_encoder.layers:
            nn.init.normal_(layer.attention.o_proj.weight, std=QUIET)
            nn.init.normal_(layer.mlp.down_proj.weight, std=QUIET)
        for parameter in self.text_encoder.parameters():
            if parameter.ndim == 2:
                parameter.lr_scale = SCALED_RATE  # type: ignore[attr-defined]

    def forward(self, noise: Tensor, **inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first noise (N, …), packed captions → states (N, T, D), canvas (N, C, H, W), pooled (N, D)."""
        states = self.conditioning_head(self.text_encoder(**inputs, use_cache=False).last_hidden_state)
        canvas, pooled = self.canvas(states, inputs["attention_mask"], noise)
        return states, canvas, pooled


def words_of(file: str) -> dict[str, Tensor]:
    """The state of :class:`Words` in what the stage "canvas" or the stage "denoiser" exported."""
    state = torch.load(file, weights_only=True)
    return {name.removeprefix("words."): value for name, value in state.items() if not name.startswith("unet.")}


def read(captions: Sequence[str], vocabulary: BeeVocabulary) -> Batch:
    """Captions as the published painter packs them. Source: spec viscpm §5.2."""
    return collate([pack({"caption": text, "objects": ""}, vocabulary) for text in captions], vocabulary)


class Drawn:
    """Every picture with its latents: what captions are drawn for; ``variants`` of each. With ``imagined``, a file of
    the stage "restyle", also the pairs of thing and style that nobody drew for training."""

    def __init__(self, data: str, vocabulary: str, autoencoder: str, variants: int, imagined: str = "") -> None:
        self.vocabulary, self.imagined = vocabulary_of(vocabulary), bool(imagined)
        self.pictures = paintings.load(data)[:, :, :, : max(1, variants)]
        self.vae = AutoencoderKL.from_pretrained(autoencoder).to(memory_format=torch.channels_last).eval()
        self.latents = self._encoded(paintings.completed(self.pictures, imagined) if imagined else self.pictures)

    @torch.no_grad()
    def _encoded(self, pictures: np.ndarray) -> Tensor:
        """(concepts, styles, backgrounds, variants, C, H, W) float16."""
        flat = torch.from_numpy(pictures.reshape(-1, *pictures.shape[4:]))
        latents = torch.cat([self.vae.encode(to_values(part)).latent_dist.mean.half() for part in flat.split(64)])
        return latents.contiguous().view(*pictures.shape[:4], *latents.shape[1:])

    def batch(self, rng: np.random.Generator, size: int, empty: float = EMPTY) -> tuple[Batch, Tensor, Tensor]:
        """Packed captions, a first noise for each, and the latents that both ask for; these (N, C, H, W)."""
        orders = [draw_order(rng, imagined=self.imagined) for _ in range(size)]
        texts = []
        for order in orders:
            text = caption(rng, order)
            text = disturbed(rng, text) if rng.random() < STRANGE else text
            texts.append("" if rng.random() < empty else text)
        noise = torch.from_numpy(rng.standard_normal((size, *self.latents.shape[4:]), dtype=np.float32))
        where = tuple(torch.tensor([order.shown for order in orders]).T)
        latents = self.latents[(*where, variant_of(noise, self.latents.shape[3]))]
        return read(texts, self.vocabulary), noise, latents.float()

    def judge(self, latents: Tensor, orders: Sequence[Order]) -> float:
        """Share of latents (N, C, H, W) whose picture is nearest to a real one of the thing that was asked for."""
        values = self.vae.to(latents.device).decode(latents.contiguous(memory_format=torch.channels_last)).sample
        grounds = [order.shown[2] for order in orders]
        ranks = paintings.nearest(to_pixels(values), self.pictures, grounds)
        return float(np.mean([rank[0] == order.concept for rank, order in zip(ranks, orders, strict=True)]))


def probes() -> dict[str, list[tuple[Order, str]]]:
    """Fixed orders with captions, by what they test."""
    rng = np.random.default_rng(77)
    count, grounds = len(world.CONCEPTS), len(world.BACKGROUNDS)
    found: dict[str, list[tuple[Order, str]]] = {}
    for language in ("zh", "en"):
        orders = [Order(c, None, None) for c in range(0, count, 2)]
        found[f"name/{language}"] = [(order, plain(order, language)) for order in orders]
        styled = [Order(c, 1 + int(rng.integers(len(STYLES) - 1)), 0) for c in range(1, count, 2)]
        styled = [order for order in styled if not order.held]
        found[f"style/{language}"] = [(order, plain(order, language, 1)) for order in styled]
    pairs = [(c, s) for c in range(count) for s in range(len(STYLES)) if paintings.held_style(c, s)]
    found["held style"] = [(Order(c, s, None), plain(Order(c, s, None), "en", 1)) for c, s in pairs]
    pairs = [(c, g) for c in range(count) for g in range(grounds) if paintings.held_background(c, g)][::3]
    found["held background"] = [(Order(c, None, g), plain(Order(c, None, g), "zh", 1)) for c, g in pairs]
    return found


class CanvasStage:
    """Learn the rough picture. ``data``: folder of the packed drawings; ``autoencoder``: folder of the trained one;
    ``variants`` of each picture that the noise chooses from: 0, 2, 4 or 8; ``imagined``: as of :class:`Drawn`."""

    def __init__(
        self,
        seed: int = 2,
        data: str = ".cache/pictograms",
        vocabulary: str = "runs/mini_paint/vocab.txt",
        autoencoder: str = "runs/mini_paint/autoencoder/vae",
        start: str = "",
        variants: int = paintings.VARIANTS,
        imagined: str = "",
    ) -> None:
        self.seed, self.start, self.variants = seed, start, variants
        self.drawn = Drawn(data, vocabulary, autoencoder, variants, imagined)
        self.probes = probes()

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        words = Words(len(self.drawn.vocabulary), self.variants)
        if self.start:
            words.load_state_dict(words_of(self.start))
        return words

    def batch(self, index: int, size: int) -> Batch:
        packed, noise, latents = self.drawn.batch(np.random.default_rng([self.seed, index]), size)
        return {**packed, "noise": noise, "latents": latents}

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        captions = {name: value for name, value in batch.items() if name != "latents"}
        latents, canvas = batch["latents"], module(**captions)[1]
        loss = (canvas.float() - latents).square().mean()
        return loss, {"canvas": loss}

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """Share of rough pictures that are nearest to a real one of the right thing."""
        figures = {}
        device = next(module.parameters()).device
        for name, asked in self.probes.items():
            inputs = read([text for _, text in asked], self.drawn.vocabulary)
            noise = torch.randn(len(asked), 16, generator=torch.Generator().manual_seed(5)).to(device)
            canvas = module(noise, **{key: value.to(device) for key, value in inputs.items()})[1]
            figures[name] = self.drawn.judge(canvas, [order for order, _ in asked])
        return figures

    def export(self, module: nn.Module, folder: Path) -> None:
        torch.save(module.state_dict(), folder / "words.pt")
