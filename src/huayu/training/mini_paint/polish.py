"""Stage "polish": the decoder learns what the painter's latents are meant to be; the encoder stays as it is."""

# N pictures, C channels of a latent, H W its sides

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from huayu.data import paintings
from huayu.data.paint_captions import Order, plain
from huayu.models.viscpm_paint import VisCPMPaintPipeline
from huayu.models.viscpm_paint.conditioning import variant_of
from huayu.training.loop import Batch
from huayu.training.mini_paint.architecture import GRID, to_values
from huayu.training.mini_paint.autoencoder import copying, psnr
from huayu.training.mini_paint.denoiser import halved

ROWS = 128  # prompts painted together
OWN = 0.7  # of the latents are painted, the rest encoded


class Decoder(nn.Module):
    """The autoencoder's second half as one call."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: Tensor) -> Tensor:
        """(N, C, H, W) → (N, 3, P, P)."""
        return self.vae.decode(latents).sample


class PolishStage:
    """Learn to decode painted latents. ``model``: the folder of the pipeline; ``steps_painted`` of the scheduler;
    ``every``: take only one of so many pictures; ``imagined``: pictures of the stage "restyle"."""

    def __init__(
        self,
        seed: int = 4,
        data: str = ".cache/pictograms",
        model: str = "runs/mini_paint/denoiser/model",
        steps_painted: int = 4,
        every: int = 1,
        imagined: str = "",
    ) -> None:
        self.seed = seed
        self.pictures = paintings.load(data)
        if imagined:
            self.pictures = paintings.completed(self.pictures, imagined)
        self.pipeline = VisCPMPaintPipeline.from_pretrained(model, dtype=torch.float32)
        self.pipeline.set_progress_bar_config(disable=True)
        where = np.ndindex(*self.pictures.shape[:3])
        orders = [Order(*place) for place in where]
        held = [order.held_on_its_colour if imagined else order.held for order in orders]
        self.orders = [order for order, no in zip(orders, held, strict=True) if not no][::every]
        sides = (self.pipeline.vae.config.latent_channels, GRID, GRID)
        self.noise = torch.randn(len(self.orders), *sides, generator=torch.Generator().manual_seed(seed))
        self.variants = variant_of(self.noise, self.pipeline.canvas.config.variants).tolist()
        with torch.no_grad():
            self.painted = self._painted(steps_painted)
            self.encoded = self._encoded()

    def module(self) -> nn.Module:
        vae = self.pipeline.vae.to(memory_format=torch.channels_last)
        vae.requires_grad_(False)
        for part in (vae.decoder, vae.post_quant_conv):
            part.requires_grad_(True)
        return Decoder(vae)

    def _painted(self, steps: int) -> Tensor:
        """What the model paints for each order, asked in one language or the other."""
        found = []
        for start in range(0, len(self.orders), ROWS):
            part = self.orders[start : start + ROWS]
            texts = [plain(order, ("zh", "en")[i % 2], i // 2 % 2) for i, order in enumerate(part)]
            noise = self.noise[start : start + ROWS]
            found.append(self.pipeline(texts, num_inference_steps=steps, latents=noise, output_type="latent").images)
        return torch.cat(found)

    def _encoded(self) -> Tensor:
        rows = np.arange(len(self.orders))
        parts = (to_values(self._real(part)) for part in np.split(rows, range(64, len(rows), 64)))
        return torch.cat([self.pipeline.vae.encode(part).latent_dist.mean for part in parts])

    def _real(self, rows: np.ndarray) -> np.ndarray:
        """uint8 (N, P, P, 3) what is meant."""
        return np.stack([self.pictures[(*self.orders[row].shown, self.variants[row])] for row in rows])

    def batch(self, index: int, size: int) -> Batch:
        rng = np.random.default_rng([self.seed, index])
        rows = rng.integers(len(self.orders), size=size)
        own = torch.from_numpy(rng.random((size, 1, 1, 1)) < OWN)
        pixels = self._real(rows)
        return {"latents": torch.where(own, self.painted[rows], self.encoded[rows]), "pixels": torch.from_numpy(pixels)}

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        return copying(module(batch["latents"]), to_values(batch["pixels"]))

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """Mean signal-to-noise ratio in dB of encoded and of painted pictures."""
        rows = np.random.default_rng(5).choice(len(self.orders), min(128, len(self.orders)), replace=False)
        device = next(module.parameters()).device
        values = to_values(self._real(rows)).to(device)
        return {
            name: float(psnr(module(latents[rows].to(device)), values).mean())
            for name, latents in (("encoded", self.encoded), ("painted", self.painted))
        }

    def export(self, module: nn.Module, folder: Path) -> None:
        self.pipeline.vae = module.vae
        halved(self.pipeline).save_pretrained(folder / "model")
