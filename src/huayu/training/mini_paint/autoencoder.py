"""Stage "autoencoder": pictures to latents and back."""

# N pictures, P side of a picture

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from huayu.data import paintings
from huayu.training.loop import Batch
from huayu.training.mini_paint.architecture import autoencoder, to_values


class Codec(nn.Module):
    """The autoencoder as one call."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, P, P) → the same pictures decoded, and their latents (N, C, H, W)."""
        latents = self.vae.encode(values).latent_dist.mean
        return self.vae.decode(latents).sample, latents


class AutoencoderStage:
    """Learn to copy pictures. ``data``: folder of the packed drawings; ``start``: an exported folder to go on from."""

    def __init__(self, seed: int = 1, data: str = ".cache/pictograms", start: str = "") -> None:
        self.seed, self.start = seed, start
        self.pictures = paintings.load(data).reshape(-1, paintings.SIDE, paintings.SIDE, 3)

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed)
        vae = AutoencoderKL.from_pretrained(self.start) if self.start else autoencoder()
        return Codec(vae.to(memory_format=torch.channels_last))

    def batch(self, index: int, size: int) -> Batch:
        rng = np.random.default_rng([self.seed, index])
        pixels = self.pictures[rng.integers(len(self.pictures), size=size)]
        for number in np.flatnonzero(rng.random(size) < 0.2):  # a codec should not know pictures by their place
            pixels[number] = np.roll(pixels[number, :, ::-1], rng.integers(-3, 4, 2), (0, 1))
        return {"pixels": torch.from_numpy(pixels)}

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        values = to_values(batch["pixels"])
        decoded, latents = module(values)
        loss, parts = copying(decoded, values)
        return loss + 1e-4 * latents.float().square().mean(), parts

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """Mean signal-to-noise ratio in dB of fixed pictures."""
        rows = np.random.default_rng(5).choice(len(self.pictures), min(200, len(self.pictures)), replace=False)
        values = to_values(self.pictures[rows]).to(next(module.parameters()).device)
        return {"psnr": float(psnr(module(values)[0], values).mean())}

    def export(self, module: nn.Module, folder: Path) -> None:
        values = to_values(self.pictures[:: max(1, len(self.pictures) // 500)])
        vae = module.vae
        with torch.no_grad():
            standardise(vae, vae.encode(values.to(vae.device)).latent_dist.mean.float())
        vae.save_pretrained(folder / "vae")


def copying(decoded: Tensor, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """How far decoded pictures (N, 3, P, P) are from the real ones, and the parts of that: colours and edges."""
    error = decoded.float() - values
    near, square = error.abs().mean(), error.square().mean()
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return near + 0.5 * edges + 0.5 * square, {"near": near, "edges": edges, "square": square}


def psnr(decoded: Tensor, values: Tensor) -> Tensor:
    """(N,) signal-to-noise ratio in dB of pictures (N, 3, P, P) in [-1, 1]."""
    return -10 * torch.log10((decoded.float().clamp(-1, 1) - values).square().mean((1, 2, 3)) / 4)


def standardise(vae: AutoencoderKL, latents: Tensor) -> None:
    """Shift and scale the latents by the last and first layers, to mean 0 by channel and variance 1 over all."""
    mean = latents.mean((0, 2, 3))
    scale = (latents - mean[:, None, None]).square().mean().sqrt()
    into, out = vae.quant_conv, vae.post_quant_conv
    count = len(mean)
    into.bias[:count] -= mean
    into.weight[:count] /= scale
    into.bias[:count] /= scale
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= scale
