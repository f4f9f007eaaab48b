"""VisCPM-Chat: BEiT-3 queries, projected, overwrite placeholder embeddings of a CPM-Bee prompt."""

# B batch, P pictures of a row, N pictures, Q queries of a picture, T tokens, D language width

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutputWithPast

from huayu.models.beit3.modeling import Beit3Model
from huayu.models.cpm_bee.generation import PackedGenerationMixin
from huayu.models.cpm_bee.modeling import CpmBeeForCausalLM, CpmBeeRMSNorm
from huayu.models.cpm_bee.position_bias import SegmentPositionBias
from huayu.models.viscpm_chat.configuration import VisCPMChatConfig
from huayu.quantization.scopes import Part
from huayu.quantization.swap import as_configured

_LINEARS = tuple(f"attention.{name}_proj" for name in "qkvo") + tuple(
    f"mlp.{name}_proj" for name in ("gate", "up", "down")
)


class VisCPMChatProjector(nn.Module):
    """Linear → exact GELU → linear, from the width of the vision branch to that of the language model."""

    def __init__(self, vision_size: int, text_size: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(vision_size, text_size)
        self.linear_2 = nn.Linear(text_size, text_size)

    def forward(self, x: Tensor) -> Tensor:
        """(N, Q, D_vision) → (N, Q, D)."""
        return self.linear_2(F.gelu(self.linear_1(x)))


class VisCPMChatForConditionalGeneration(PreTrainedModel, PackedGenerationMixin):
    """Answers about pictures. Source: spec viscpm §3.2.

    Beside the tensors of :class:`CpmBeeForCausalLM` it takes ``image_token_index`` (B, T), -1 for text and ``p·Q + q``
    where query ``q`` of the row's picture ``p`` stands, and either ``pixel_values`` (B, P, 3, S, S) in [-1, 1] or
    ``image_embeds`` (B, P, Q, D), which :meth:`get_image_features` computed before. Rows with fewer pictures are
    padded with anything. Without pictures it is the language model.
    """

    config_class = VisCPMChatConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["Beit3Layer", "CpmBeeLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    quantization_scopes = {"published": tuple(Part(f"language_model.model.layers.*.{name}") for name in _LINEARS)}

    def __init__(self, config: VisCPMChatConfig) -> None:
        super().__init__(config)
        vision, text = config.vision_config, config.text_config
        self.query_tokens = nn.Parameter(torch.zeros(config.num_query_tokens, vision.hidden_size))
        self.vision_encoder = Beit3Model(vision)
        self.projector = VisCPMChatProjector(vision.hidden_size, text.hidden_size)
        self.language_model = CpmBeeForCausalLM(text)
        as_configured(self)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if module is self:
            init.normal_(self.query_tokens, std=self.config.initializer_range)
        elif isinstance(module, CpmBeeRMSNorm):
            init.ones_(module.weight)
        elif isinstance(module, nn.Embedding | SegmentPositionBias):
            init.normal_(module.weight, std=self.config.text_config.initializer_range)
        else:
            super()._init_weights(module)

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> None:
        """None: the input embedding itself computes the logits."""

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Pictures (N, 3, S, S) → (N, Q, D), in the dtype of the language model; reusable over turns."""
        queries = self.query_tokens.expand(len(pixel_values), -1, -1)
        states = self.vision_encoder(pixel_values, queries).last_hidden_state
        return self.projector(states).to(self.language_model.dtype)

    def splice(self, embeds: Tensor, image_embeds: Tensor, image_token_index: Tensor) -> Tensor:
        """Overwrite placeholders: (B, T, D), (B, P, Q, D), (B, T) → (B, T, D), without scaling or rotation."""
        flat = image_embeds.flatten(1, 2).to(embeds.dtype)
        index = image_token_index.clamp(min=0)[..., None].expand(-1, -1, flat.shape[-1])
        return torch.where((image_token_index >= 0)[..., None], flat.gather(1, index), embeds)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_embeds: Tensor | None = None,
        image_token_index: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        token_subscripts: Tensor | None = None,
        request_vocab: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """See the class, and the language model for the rest.

        Raises ValueError when pictures come without ``image_token_index`` or the reverse, or in both forms.
        """
        if pixel_values is not None and image_embeds is not None:
            raise ValueError("give either pixel_values or image_embeds")
        if (pixel_values is None and image_embeds is None) != (image_token_index is None):
            raise ValueError("pictures and image_token_index belong together")
        if pixel_values is not None:
            image_embeds = self._read_pictures(pixel_values, image_token_index)
        if image_embeds is not None:
            if inputs_embeds is None:
                inputs_embeds = self.language_model.model.embed(input_ids, token_subscripts, request_vocab)
            inputs_embeds = self.splice(inputs_embeds, image_embeds, image_token_index)
        if inputs_embeds is not None:
            input_ids = None
        return self.language_model(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            token_subscripts=token_subscripts,
            request_vocab=request_vocab,
            labels=labels,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    def _read_pictures(self, pixel_values: Tensor, image_token_index: Tensor) -> Tensor:
        """(B, P, 3, S, S) → (B, P, Q, D); what only pads a row is not looked at and comes out as zeros."""
        count = image_token_index.amax(dim=1) // self.config.num_query_tokens + 1
        given = torch.arange(pixel_values.shape[1], device=count.device) < count[:, None]
        features = self.get_image_features(pixel_values[given])
        return features.new_zeros(*given.shape, *features.shape[1:]).index_put((given,), features)
