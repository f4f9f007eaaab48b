"""Sizes of a BEiT-3 vision branch with query tokens."""

from __future__ import annotations

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from huayu.models.stem import check_stem


@strict
class Beit3Config(PreTrainedConfig):
    """Configuration of :class:`Beit3Model`; defaults are BEiT-3 large, patch 16, 224 pixels.

    ``stem_channels``: None is the published patch embedding (one convolution of ``patch_size``). A list of widths
    puts so many convolutions before it, each of stride 2 but the first, whose stride makes up the rest of
    ``patch_size``; after each but the first stand ``stem_depth`` residual ones. Small models trained from scratch on
    few pictures need such a stem; the published weights do not have one.
    ``interpolate_positions``: accept pictures of other sizes by bicubic interpolation of the position table.

    Source: spec viscpm §3.1.
    """

    model_type = "beit3_queries"
    base_config_key = "vision_config"

    image_size: int = 224
    patch_size: int = 16
    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    layer_norm_eps: float = 1e-5
    max_query_positions: int = 1024
    text_vocab_size: int = 64010
    stem_channels: list[int] | None = None
    stem_depth: int = 0
    interpolate_positions: bool = False
    initializer_range: float = 0.02

    def validate_stem(self) -> None:
        """The stem's strides make up one patch; called for every new configuration."""
        check_stem(self.stem_channels, self.patch_size)

    @classmethod
    def from_published(cls, settings: dict, **changes: object) -> Beit3Config:
        """From torchscale's names (``encoder_embed_dim``, …). Raises KeyError for a missing size."""
        return cls(
            image_size=settings["img_size"],
            patch_size=settings["patch_size"],
            hidden_size=settings["encoder_embed_dim"],
            num_hidden_layers=settings["encoder_layers"],
            num_attention_heads=settings["encoder_attention_heads"],
            intermediate_size=settings["encoder_ffn_embed_dim"],
            max_query_positions=settings["max_source_positions"],
            text_vocab_size=settings["vocab_size"],
            **changes,
        )
