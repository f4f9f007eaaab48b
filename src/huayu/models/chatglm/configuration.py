"""Sizes and constants of a ChatGLM-6B language model."""

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

ROPE_FLOWS = ("fp32_from_fp16", "hf_fp16", "fp32")
# Names in the published json files of both formats -> ours.
_PUBLISHED_NAMES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "inner_hidden_size": "inner_hidden_size",
    "layernorm_epsilon": "layernorm_epsilon",
    "max_sequence_length": "max_sequence_length",
    "bos_token_id": "bos_token_id",
    "eos_token_id": "eos_token_id",
    "mask_token_id": "mask_token_id",
    "gmask_token_id": "gmask_token_id",
    "pad_token_id": "pad_token_id",
    "pre_seq_len": "pre_seq_len",
    "prefix_projection": "prefix_projection",
    "use_cache": "use_cache",
}
_REQUIRED = ("vocab_size", "hidden_size", "num_layers", "num_attention_heads")


@strict
class ChatGLMConfig(PreTrainedConfig):
    """Configuration of :class:`ChatGLMModel`; defaults are the published model of VisualGLM-6B.

    ``rope``: precision of the angles of the rotary positions. ``"fp32_from_fp16"`` (what the fp32 model and sat's fp16
    model compute), ``"hf_fp16"`` (frequencies, angles, cosine and sine all in fp16, as the Hugging Face model in half
    precision) or ``"fp32"`` (sat in fp32: frequencies that were never rounded). ``pre_seq_len``: tokens of a trained
    prefix that every token sees, None for no prefix; ``prefix_projection``: it is computed by a small network.
    ``quantization_bit``: 8 or 4 where layers are packed, ``quantization_scope`` says which.

    Source: spec visualglm §1, 2.
    """

    model_type = "chatglm"
    keys_to_ignore_at_inference = ["past_key_values"]

    vocab_size: int = 130528
    hidden_size: int = 4096
    num_hidden_layers: int = 28
    num_attention_heads: int = 32
    inner_hidden_size: int = 16384
    layernorm_epsilon: float = 1e-5
    max_sequence_length: int = 2048
    rope: str = "fp32_from_fp16"
    pre_seq_len: int | None = None
    prefix_projection: bool = False
    quantization_bit: int | None = None
    quantization_scope: str | list | None = None
    initializer_range: float = 0.02
    use_cache: bool = True
    pad_token_id: int | None = 3
    unk_token_id: int | None = 0
    bos_token_id: int | None = 130004
    eos_token_id: int | list[int] | None = 130005
    mask_token_id: int = 130000
    gmask_token_id: int = 130001
    tie_word_embeddings: bool = False

    def validate_sizes(self) -> None:
        """Called for every new configuration. Raises ValueError."""
        if self.hidden_size % (4 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} is not {self.num_attention_heads} heads of a multiple of 4 numbers"
            )
        if self.rope not in ROPE_FLOWS:
            raise ValueError(f"rope is {self.rope!r}; known are {', '.join(ROPE_FLOWS)}")

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def from_published(cls, settings: dict[str, Any], **changes: Any) -> ChatGLMConfig:
        """From the published json, Hugging Face's or sat's. Raises KeyError for a missing size.

        Ids that the json does not give are the published model's. sat gives neither eos (bos + 1 in the vocabulary)
        nor the inner size (four times the hidden one).
        """
        for name in _REQUIRED:
            settings[name]
        values = {ours: settings[name] for name, ours in _PUBLISHED_NAMES.items() if name in settings}
        values.setdefault("inner_hidden_size", 4 * values["hidden_size"])
        if "bos_token_id" in values:
            values.setdefault("eos_token_id", values["bos_token_id"] + 1)
        return cls(**{**values, **changes})
