"""The denoising loop: from noise to latents, one :class:`Step` at a time."""

# N pictures, R rows of the UNet (2N with guidance, N without), T tokens, C widths, h w sides of the latents

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from huayu.models.viscpm_paint.prompts import PromptEmbeds

Generators = torch.Generator | list[torch.Generator] | None


@dataclass(frozen=True)
class Condition:
    """What the UNet is told besides the latents; rows in the published order [unconditional; conditional].

    ``states`` (R, T, C); ``visible`` (R, T), None: all; ``canvas`` (R, channels, h, w) and ``pooled`` (R, C) for
    models that have a canvas. ``guidance`` None: one pass.
    """

    states: Tensor
    visible: Tensor | None
    guidance: float | None
    canvas: Tensor | None = None
    pooled: Tensor | None = None


@dataclass(frozen=True)
class Step:
    """One step: tensors (N, 4, h, w), but ``unet_out`` (R, 4, h, w). ``picture``: the final latents as seen from here,
    where the scheduler says."""

    index: int
    timestep: Tensor
    latents_in: Tensor
    unet_out: Tensor
    prediction: Tensor
    latents_out: Tensor
    picture: Tensor | None


def condition(embeds: PromptEmbeds, guidance: float | None, unet: Any, canvas_head: Any, noise: Tensor) -> Condition:
    """Rows for the UNet; ``noise`` (N, C, h, w): the first latents, to whose sides a canvas is stretched."""
    parts = [(embeds.cond, embeds.cond_mask)]
    if guidance is not None and embeds.uncond is not None and embeds.uncond_mask is not None:
        parts.insert(0, (embeds.uncond, embeds.uncond_mask))
    states, mask = (torch.cat(column) for column in zip(*parts, strict=True))
    visible = None if embeds.visible.all() else embeds.visible.repeat(len(parts), 1)
    canvas = pooled = None
    if canvas_head is not None:
        canvas, pooled = canvas_head(states, mask, noise)
        if canvas.shape[-2:] != noise.shape[-2:]:
            canvas = F.interpolate(canvas, noise.shape[-2:], mode="bilinear", align_corners=False)
        pooled = pooled if unet.config.class_embed_type == "projection" else None
    return Condition(states, visible, guidance, canvas, pooled)


def predict(unet: Any, told: Condition, latents: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 4, h, w) → the UNet's rows (R, 4, h, w), and what they make together (N, 4, h, w)."""
    rows = latents if told.guidance is None else torch.cat([latents, latents])
    out = unet(
        rows if told.canvas is None else torch.cat([rows, told.canvas], 1),
        timestep,
        encoder_hidden_states=told.states,
        encoder_attention_mask=told.visible,
        class_labels=told.pooled,
        return_dict=False,
    )[0]
    if told.canvas is not None:
        out = out + told.canvas
    if told.guidance is None:
        return out, out
    uncond, cond = out.chunk(2)
    return out, uncond + told.guidance * (cond - uncond)


@dataclass
class Job:
    """All that a run of the denoising loop needs; made by ``VisCPMPaintPipeline.prepare``.

    ``latents`` (N, 4, h, w): where it begins. ``kept``: of inpainting, the pixels (1, 3, H, W) in [-1, 1] and the mask
    (1, 1, H, W), 1 where to paint. ``change(latents, index)`` is applied after each step.
    """

    unet: Any
    scheduler: Any
    told: Condition
    timesteps: Tensor
    latents: Tensor
    generator: Generators
    change: Callable[[Tensor, int], Tensor] | None = None
    kept: tuple[Tensor, Tensor] | None = None

    def steps(self, on_step: Callable[[int, Tensor, Tensor], Tensor] | None = None) -> Iterator[Step]:
        """Yield each step; ``on_step(index, timestep, latents)`` returns the latents to go on with."""
        draws = "generator" in inspect.signature(self.scheduler.step).parameters
        extra = {"generator": self.generator} if draws else {}
        for index, timestep in enumerate(self.timesteps):
            before = self.latents
            given = self.scheduler.scale_model_input(before, timestep)
            out, prediction = predict(self.unet, self.told, given, timestep)
            result = self.scheduler.step(prediction, timestep, before, **extra)
            after = result.prev_sample if self.change is None else self.change(result.prev_sample, index)
            self.latents = after if on_step is None else on_step(index, timestep, after)
            picture = getattr(result, "pred_original_sample", None)
            yield Step(index, timestep, before, out, prediction, self.latents, picture)
