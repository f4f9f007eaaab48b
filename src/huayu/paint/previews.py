"""What a painting looks like while it is on its way."""

from __future__ import annotations

import time
from typing import Any

import torch
from PIL import Image
from torch.nn import functional as F

_SIDE = 32  # latents


class Previews:
    """Small pictures of latents on the way, as often as a fifth of the time allows; None for latents of other kinds."""

    def __init__(self, pipeline: Any) -> None:
        self._vae = getattr(pipeline, "vae", None)
        self._next = 0.0

    @torch.no_grad()
    def __call__(self, latents: torch.Tensor | None) -> Image.Image | None:
        """Of the first of (N, C, h, w); a VAE that waits on another device is left there."""
        vae, begin = self._vae, time.perf_counter()
        if latents is None or latents.ndim != 4 or vae is None or vae.device != latents.device or begin < self._next:
            return None
        shift, scale = getattr(vae.config, "shift_factor", None) or 0.0, vae.config.scaling_factor
        first = latents[:1].to(vae.dtype) / scale + shift
        side = max(first.shape[-2:])
        if side > _SIDE:
            first = F.interpolate(first, scale_factor=_SIDE / side, mode="area")
        pixels = (vae.decode(first, return_dict=False)[0][0].float() / 2 + 0.5).clamp(0, 1).mul(255).byte()
        end = time.perf_counter()
        self._next = end + 4 * (end - begin)
        return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
