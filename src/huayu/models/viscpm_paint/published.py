"""From a state dict under the published names to the parts of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn

from huayu.models.cpm_bee.checkpoint import text_config
from huayu.models.cpm_bee.configuration import CpmBeeConfig
from huayu.models.cpm_bee.modeling import CpmBeeModel
from huayu.models.viscpm_paint.checkpoint import PUBLISHED_UNET, PUBLISHED_VAE
from huayu.models.viscpm_paint.conditioning import ConditioningHead

MODEL = "VisCPMPaintModel"


@dataclass
class VisCPMPaintConfig:
    """Sizes of the parts. ``head``: widths of the conditioning head, in and out; None: no such part."""

    text: CpmBeeConfig | None
    head: tuple[int, int] | None
    unet: dict[str, Any] | None
    vae: dict[str, Any] | None = None
    dtype: torch.dtype | None = None


def configure(shapes: Mapping[str, tuple[int, ...]], settings: Mapping[str, Any] | None = None) -> VisCPMPaintConfig:
    """Sizes for a published file: the text encoder's off its shapes, the UNet's as published.

    ``settings``: a json beside the file with other sizes under ``llm`` (CPM-Bee's names) and ``unet`` (diffusers').
    Raises KeyError for an absent key.
    """
    settings = settings or {}
    text = settings.get("llm") or (settings if "dim_model" in settings else None)
    out, width = shapes["trans_block.w_out_res.weight"]
    return VisCPMPaintConfig(
        CpmBeeConfig.from_published(dict(text)) if text else text_config(shapes, "llm."),
        (width, out),
        {**(settings.get("unet") or PUBLISHED_UNET)},
    )


class VisCPMPaintModel(nn.Module):
    """The parts side by side, to be filled from one file; a pipeline takes them from here."""

    def __init__(self, config: VisCPMPaintConfig) -> None:
        super().__init__()
        self.config = config
        if config.text is not None:
            self.text_encoder = CpmBeeModel(config.text)
        if config.head is not None:
            self.conditioning_head = ConditioningHead(*config.head)
        if config.unet is not None:
            self.unet = UNet2DConditionModel.from_config(config.unet)
        if config.vae is not None:
            self.vae = AutoencoderKL.from_config({**config.vae})


def published_vae(settings: Mapping[str, Any] | None = None) -> AutoencoderKL:
    """The VAE of Stable Diffusion 2.1 base, or one of other sizes, on the meta device."""
    with torch.device("meta"):
        return AutoencoderKL.from_config({**(settings or PUBLISHED_VAE)})
