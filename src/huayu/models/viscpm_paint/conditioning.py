"""From the text encoder's states to what the UNet is told."""

# B batch, T tokens, D width of the text encoder, C width of the UNet's cross attention, S side of the latents

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class ConditioningHead(ModelMixin, ConfigMixin):
    """Linear without bias, then LayerNorm: the published ``trans_block``. Source: spec viscpm §5.1."""

    @register_to_config
    def __init__(self, input_dim: int = 4096, output_dim: int = 1024, eps: float = 1e-6) -> None:
        super().__init__()
        self.proj = nn.Linear(input_dim, output_dim, bias=False)
        self.norm = nn.LayerNorm(output_dim, eps=eps)

    def forward(self, states: Tensor) -> Tensor:
        """(B, T, D) → (B, T, C)."""
        return self.norm(self.proj(states))


class CanvasHead(ModelMixin, ConfigMixin):
    """A rough picture straight from the text, for small models only: the UNet gets it beside the noisy latents.

    With ``variants``, a power of two, it knows so many pictures for a text. With ``grounds``, so many colours that the
    text names are spread over the picture, each by shares of its own: what lies before a colour need not be learned
    with every colour anew. The published model has no such head.
    """

    @register_to_config
    def __init__(
        self, input_dim: int, channels: int, size: int, hidden_dim: int = 768, variants: int = 0, grounds: int = 0
    ) -> None:
        super().__init__()
        if variants:
            self.variant = nn.Embedding(variants, input_dim)
        self.layers = nn.Sequential(
            nn.Linear(input_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, channels * size * size),
        )
        if grounds:
            self.colours = nn.Sequential(
                nn.Linear(input_dim, input_dim), nn.GELU(), nn.Linear(input_dim, grounds * channels)
            )
            self.shares = nn.Linear(hidden_dim, grounds * size * size)
            nn.init.zeros_(self.shares.weight)
            nn.init.zeros_(self.shares.bias)

    def forward(self, prompt_embeds: Tensor, mask: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, T, C) and (B, T), true for the prompt's own tokens → canvas (B, channels, S, S), pooled (B, C).

        ``noise`` (N, …), the first one, chooses the variants; B is a multiple of N. Without it, all are the first.
        """
        weight = mask.to(prompt_embeds.dtype)[..., None]
        text = pooled = (prompt_embeds * weight).sum(1) / weight.sum(1).clamp(min=1)
        if self.config.variants:
            noise = -torch.ones_like(pooled) if noise is None else noise
            chosen = self.variant(variant_of(noise, self.config.variants))
            pooled = pooled + chosen.repeat(len(pooled) // len(chosen), 1)
        hidden = self.layers[:-1](pooled)
        picture = self.layers[-1](hidden).view(len(text), self.config.channels, -1)
        if self.config.grounds:
            colours = self.colours(text).view(len(text), self.config.grounds, -1)
            shares = self.shares(hidden).view(len(text), self.config.grounds, -1)
            picture = picture + colours.transpose(1, 2) @ shares
        return picture.view(len(text), -1, self.config.size, self.config.size), pooled


def variant_of(noise: Tensor, variants: int) -> Tensor:
    """(N, …) → (N,) which of 2ⁿ variants it chooses, by the signs of its last n numbers; 0 where there are none.

    Not the first: of seeds 0 to 15 the first number is negative in 14.
    """
    count = max(variants, 1).bit_length() - 1
    numbers = noise.flatten(1)
    bits = (numbers[:, numbers.shape[1] - count :] > 0).long()
    return (bits << torch.arange(bits.shape[1], device=bits.device)).sum(1)
