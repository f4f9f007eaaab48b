"""What ``generate`` needs to know of ChatGLM: two position numbers a token, pictures in the prompt only."""

# B batch, T tokens, K cached + T tokens

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F
from transformers import GenerationMixin
from transformers.cache_utils import Cache

from huayu.models.chatglm.positions import held, position_ids_of

_PROMPT_ONLY = ("pixel_values", "image_embeds", "image_token_index")


class ChatGLMGenerationMixin(GenerationMixin):
    """``generate`` for the language model, alone or with pictures.

    Prompts end with ``[gMASK] <sop>`` and are padded on the left, with an ``attention_mask``. ``inputs_embeds`` without
    ``input_ids`` need ``position_ids`` (B, 2, T).
    """

    def _prepare_position_ids_for_generation(self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]) -> Tensor:
        """(B, 2, T) for the whole prompt."""
        ids = model_kwargs.get("input_ids")
        if ids is None or not ids.shape[1]:
            ids = inputs_tensor
        if ids.is_floating_point():
            raise ValueError("inputs_embeds need position_ids (B, 2, T): see huayu.models.chatglm.positions")
        return position_ids_of(ids, self.config.get_text_config(), model_kwargs.get("attention_mask"))

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: Tensor | None = None,
        **model_kwargs: Any,
    ) -> tuple[Tensor | None, dict[str, Any]]:
        """Every row ``expand_size`` times; three-dimensional positions have their rows first here."""
        positions = model_kwargs.pop("position_ids", None)
        input_ids, model_kwargs = super()._expand_inputs_for_generation(
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **model_kwargs
        )
        if positions is not None:
            model_kwargs["position_ids"] = positions.repeat_interleave(expand_size, dim=0)
        return input_ids, model_kwargs

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        is_first_iteration: bool | None = False,
        position_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The prompt with its pictures, or the new tokens with their positions."""
        inputs: dict[str, Any] = {**kwargs, "past_key_values": past_key_values}
        cached = past_key_values is not None and past_key_values.get_seq_length() > 0
        if cached:
            new = input_ids[:, -(next_sequence_length or 1) :]
            for name in _PROMPT_ONLY:
                inputs.pop(name, None)
            inputs["input_ids"] = new
        elif inputs_embeds is not None:  # then generate() never goes without a cache
            new = inputs_embeds
            inputs["inputs_embeds"] = inputs_embeds
        else:
            new = input_ids
            inputs["input_ids"] = input_ids
            if (index := inputs.get("image_token_index")) is not None:  # without a cache the prompt has grown
                inputs["image_token_index"] = F.pad(index, (0, new.shape[1] - index.shape[1]), value=-1)
        if position_ids is not None:  # generate() counts both numbers on, and keeps those of all tokens
            inputs["position_ids"] = held(position_ids)[..., -new.shape[1] :]
        return inputs


def restarted(input_ids: Tensor, pad_token_id: int | None) -> Tensor | None:
    """Padding mask (B, T) of rows that begin with padding; None when no row does. Source: spec visualglm §2."""
    if pad_token_id is None or not bool((input_ids[:, 0] == pad_token_id).any()):
        return None
    return ((input_ids != pad_token_id).long().cumsum(dim=1) > 0).long()
