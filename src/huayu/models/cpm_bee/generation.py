"""What ``generate`` needs to know of packed prompts: every token, cached ones too, has metadata."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GenerationMixin
from transformers.cache_utils import Cache

# A new token goes on in the segment of the last one: these columns are repeated for it.
_REPEATED = ("sample_ids", "span_ids", "segment_ids", "num_segments", "segment_rel_offset", "is_context")
METADATA = (*_REPEATED, "segment_rel", "position_ids")
_PROMPT_ONLY = ("pixel_values", "image_embeds", "image_token_index", "token_subscripts")


class PackedGenerationMixin(GenerationMixin):
    """``generate`` for models whose inputs :func:`huayu.models.cpm_bee.packing.collate` made."""

    def _validate_model_kwargs(self, model_kwargs: dict[str, Any]) -> None:
        known = {*METADATA, "attention_mask", "token_subscripts", "use_cache"}
        super()._validate_model_kwargs({k: v for k, v in model_kwargs.items() if k not in known})

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The prompt with all that belongs to it, or the new tokens with the metadata of all tokens."""
        inputs: dict[str, Any] = {**kwargs, "past_key_values": past_key_values}
        if past_key_values is not None and past_key_values.get_seq_length():
            for name in _PROMPT_ONLY:
                inputs.pop(name, None)
            return {**inputs, "input_ids": input_ids[:, -(next_sequence_length or 1) :]}
        if inputs_embeds is not None:  # then generate() never goes without a cache
            inputs.pop("token_subscripts", None)
            return {**inputs, "inputs_embeds": inputs_embeds}
        for name, fill in (("token_subscripts", 0), ("image_token_index", -1)):
            if (value := inputs.get(name)) is not None:  # without a cache the prompt has grown
                inputs[name] = F.pad(value, (0, input_ids.shape[1] - value.shape[1]), value=fill)
        return {**inputs, "input_ids": input_ids}

    def _update_model_kwargs_for_generation(
        self, outputs: Any, model_kwargs: dict[str, Any], is_encoder_decoder: bool = False, num_new_tokens: int = 1
    ) -> dict[str, Any]:
        kwargs = super()._update_model_kwargs_for_generation(
            outputs, model_kwargs, is_encoder_decoder=is_encoder_decoder, num_new_tokens=num_new_tokens
        )
        for name in _REPEATED:
            if (value := kwargs.get(name)) is not None:
                kwargs[name] = torch.cat([value, value[:, -1:].expand(-1, num_new_tokens)], dim=1)
        return kwargs
