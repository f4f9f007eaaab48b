"""Sizes and constants of a CPM-Bee language model."""

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

# Names in the published json files -> ours.
_PUBLISHED_NAMES = {
    "vocab_size": "vocab_size",
    "dim_model": "hidden_size",
    "num_heads": "num_attention_heads",
    "dim_head": "head_dim",
    "dim_ff": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "position_bias_num_buckets": "position_bias_num_buckets",
    "position_bias_num_segment_buckets": "position_bias_num_segment_buckets",
    "position_bias_max_distance": "position_bias_max_distance",
    "eps": "rms_norm_eps",
    "mask_modules": "mask_modules",
}


@strict
class CpmBeeConfig(PreTrainedConfig):
    """Configuration of :class:`CpmBeeModel`; defaults are the 10B model of VisCPM.

    ``mask_modules``: None, or one pair ``(no attention, no feed-forward)`` for each layer; True removes that
    sub-block. ``position_bias_max_distance`` is in tokens, ``max_segment_depth`` in levels of the item's tree.

    Source: spec viscpm §1.1.
    """

    model_type = "cpm_bee"
    keys_to_ignore_at_inference = ["past_key_values"]

    vocab_size: int = 86583
    hidden_size: int = 4096
    num_hidden_layers: int = 48
    num_attention_heads: int = 32
    head_dim: int = 128
    intermediate_size: int = 10240
    rms_norm_eps: float = 1e-6
    position_bias_num_buckets: int = 256
    position_bias_num_segment_buckets: int = 256
    position_bias_max_distance: int = 2048
    max_segment_depth: int = 8
    mask_modules: list | None = None
    initializer_range: float = 1.0
    use_cache: bool = True
    pad_token_id: int | None = 0
    unk_token_id: int | None = 1
    bos_token_id: int | None = 6
    eos_token_id: int | list[int] | None = 7
    tie_word_embeddings: bool = True

    def validate_mask_modules(self) -> None:
        """One pair for each layer; called for every new configuration."""
        if self.mask_modules is not None and len(self.mask_modules) != self.num_hidden_layers:
            raise ValueError(f"mask_modules has {len(self.mask_modules)} pairs for {self.num_hidden_layers} layers")

    @classmethod
    def from_published(cls, settings: dict[str, Any], **changes: Any) -> CpmBeeConfig:
        """From the json of the CPM-Bee or VisCPM repositories (``dim_model``, ``num_heads``, …).

        ``half: true`` there becomes ``dtype`` float16. Dropout (always 0) is not used. Raises KeyError for a missing
        size.
        """
        values = {ours: settings[name] for name, ours in _PUBLISHED_NAMES.items() if name in settings}
        for name in ("vocab_size", "dim_model", "num_heads", "dim_head", "dim_ff", "num_layers"):
            settings[name]  # the class defaults of the published code differ from its json: sizes must be given
        dtype = "float16" if settings.get("half") else "float32"
        return cls(**{"dtype": dtype, **values, **changes})
