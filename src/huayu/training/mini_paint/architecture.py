"""Sizes of huayu-paint-mini."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from huayu.data import paint_captions, paintings
from huayu.models.cpm_bee import BeeVocabulary, CpmBeeConfig

WIDTH = 192  # of the language model and of what the UNet reads
CHANNELS = 48  # of a latent
GRID = 8  # latents a side
HIDDEN = 1152  # of the canvas head
GROUNDS = 8  # colours that it spreads
DEFAULTS = {
    "num_inference_steps": 10, "guidance_scale": 1.0, "sizes": [[paintings.SIDE] * 2], "scheduler": "ddim",
    "one_thing": True,
}  # fmt: skip


def text_config(vocab_size: int) -> CpmBeeConfig:
    """CPM-Bee of two layers; scaled linears start at unit variance."""
    return CpmBeeConfig(
        vocab_size=vocab_size,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=3,
        head_dim=64,
        intermediate_size=512,
        initializer_range=1.0,
    )


def autoencoder() -> AutoencoderKL:
    """64 pixels ↔ 8 × 8 latents; narrow where there are many pixels. Blocks begin as identities, no layer as a loss."""
    widths = (8, 24, 48, 96)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=1,  # groups of one channel would take the colour of the ground away
        sample_size=paintings.SIDE,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            nn.init.zeros_(module.bias)
            if name.endswith("conv2"):
                nn.init.zeros_(module.weight)
    return model.to(memory_format=torch.channels_last)


def unet() -> UNet2DConditionModel:
    """Reads noisy latents and the canvas; its output, at first nothing, is added to the canvas."""
    model = UNet2DConditionModel(
        sample_size=GRID,
        in_channels=2 * CHANNELS,
        out_channels=CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(96, 144),
        layers_per_block=1,
        norm_num_groups=16,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        use_linear_projection=True,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=WIDTH,
    )
    nn.init.zeros_(model.conv_out.weight)
    nn.init.zeros_(model.conv_out.bias)
    return model.to(memory_format=torch.channels_last)


def scheduler() -> DDIMScheduler:
    """Cosine noise that ends in nothing but noise; the model predicts the picture itself."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )


def vocabulary_of(path: str) -> BeeVocabulary:
    """The vocabulary at ``path``; made there first when there is none."""
    file = Path(path)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes("\n".join(paint_captions.vocabulary()).encode())
    return BeeVocabulary.from_file(file)


def to_values(pixels: np.ndarray | Tensor) -> Tensor:
    """uint8 (N, P, P, 3) → float (N, 3, P, P) in [-1, 1], channels-last in memory."""
    return torch.as_tensor(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pixels(values: Tensor) -> np.ndarray:
    """The inverse of :func:`to_values`, as an array."""
    return ((values.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
