"""How much memory painting takes, reckoned from the parts before any weight is read."""

# N pictures, H W sides in pixels

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

_MIB = 2**20
_TEXT_WORK = 256 * _MIB  # two prompts of a few hundred tokens, at the published width


def memory_plan(
    models: Mapping[str, Any],
    dtypes: Mapping[str, torch.dtype],
    *,
    pictures: int = 1,
    size: tuple[int, int] = (512, 512),
    guided: bool = True,
    sliced: bool = False,
) -> dict[str, int]:
    """Peak bytes on the device for each way to paint N ``pictures`` of ``size`` (W, H).

    ``models``: ``text_encoder``, ``conditioning_head``, ``unet``, ``vae``, on any device, meta too; ``dtypes``: by
    part, ``""`` for all others. ``sliced``: the VAE decodes one picture at a time. Weights are counted, the working
    memory is an estimate. Modes: ``"together"``; ``"in turn"`` (``enable_model_cpu_offload``: one part at a time on the
    device); ``"texts first"`` (``open_pipeline(texts=…)``: the text encoder is gone before the UNet is read).
    """
    width = {name: dtypes.get(name, dtypes.get("", torch.float32)).itemsize for name in models}
    weights = {name: width[name] * sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    latents = size[0] * size[1] // 4 ** (len(models["vae"].config.block_out_channels) - 1)
    work = {
        "text_encoder": _TEXT_WORK,
        "unet": width["unet"] * pictures * (2 if guided else 1) * latents * _unet_channels(models["unet"]),
        "vae": width["vae"] * (1 if sliced else pictures) * size[0] * size[1] * _vae_channels(models["vae"]),
    }
    peak = {name: weights[name] + work.get(name, 0) for name in models}
    painting = [name for name in models if name != "text_encoder"]
    most = max(work[name] for name in ("unet", "vae"))
    return {
        "together": sum(weights.values()) + max(work.values()),
        "in turn": max(peak.values()),
        "texts first": max(
            weights["text_encoder"] + weights["conditioning_head"] + _TEXT_WORK,
            sum(weights[name] for name in painting) + most,
        ),
    }


def _unet_channels(unet: Any) -> float:
    """Values kept per latent at the fullest moment: every skip, and the widest feed-forward of the first level."""
    blocks, layers = unet.config.block_out_channels, unet.config.layers_per_block
    skips = sum(channels * (layers + 1) / 4**level for level, channels in enumerate(blocks))
    return skips + 12 * blocks[0]


def _vae_channels(vae: Any) -> int:
    """Values kept per pixel at the fullest moment: the first block at full size reads twice the last width."""
    first, second = vae.config.block_out_channels[:2]
    return 2 * second + 2 * first
