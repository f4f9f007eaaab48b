"""VisualGLM: ViT → Q-Former → linear, whose outputs overwrite placeholder embeddings of a ChatGLM prompt."""

# B batch, P pictures of a row, N pictures, Q queries of a picture, T tokens, D language width

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Blip2QFormerModel, Blip2VisionModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutputWithPast

from huayu.models.chatglm.generation import ChatGLMGenerationMixin
from huayu.models.chatglm.modeling import ChatGLMForCausalLM
from huayu.models.chatglm.scopes import scopes
from huayu.models.stem import StemmedPatches, init_stem
from huayu.models.visualglm.configuration import VISION_NORM_EPSILON, VisualGLMConfig
from huayu.quantization.scopes import Part
from huayu.quantization.swap import as_configured, quantize_model

_VISION = ("self_attn.qkv", "self_attn.projection", "mlp.fc1", "mlp.fc2")


class VisualGLMForConditionalGeneration(PreTrainedModel, ChatGLMGenerationMixin):
    """Answers about a picture. Source: spec visualglm §4.

    Beside the tensors of :class:`ChatGLMForCausalLM` it takes ``image_token_index`` (B, T), -1 for text and ``p·Q + q``
    where query ``q`` of the row's picture ``p`` stands, and either ``pixel_values`` (B, P, 3, S, S) or ``image_embeds``
    (B, P, Q, D), which :meth:`get_image_features` computed before. Rows with fewer pictures are padded with anything.
    Without pictures it is the language model.
    """

    config_class = VisualGLMConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["Blip2EncoderLayer", "Blip2QFormerLayer", "ChatGLMLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    quantization_scopes = scopes(
        "language_model.", tuple(Part(f"vision_encoder.encoder.layers.*.{name}", 8) for name in _VISION)
    )

    def __init__(self, config: VisualGLMConfig) -> None:
        super().__init__(config)
        width = config.qformer_config.hidden_size
        self.vision_encoder = Blip2VisionModel._from_config(config.vision_config)
        self.vision_encoder.post_layernorm.eps = VISION_NORM_EPSILON
        if config.stem_channels:
            self.vision_encoder.embeddings.patch_embedding = StemmedPatches(
                config.stem_channels,
                config.stem_depth,
                config.vision_config.patch_size,
                config.vision_config.hidden_size,
            )
        self.query_tokens = nn.Parameter(torch.zeros(config.image_length, width))
        self.qformer = Blip2QFormerModel._from_config(config.qformer_config)
        self.projector = nn.Linear(width, config.text_config.hidden_size)
        self.language_model = ChatGLMForCausalLM(config.text_config)
        as_configured(self)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if module is self:
            init.normal_(self.query_tokens, std=self.config.initializer_range)
            self.vision_encoder.embeddings.patch_embedding.apply(init_stem)  # after the ViT's own settings
        else:
            super()._init_weights(module)

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_output_embeddings(value)

    def quantize(self, bits: int | str, scope: str = "published") -> Any:
        """Pack the linears that ``scope`` names in 8 or 4 bits, in place, and return the model. Raises ModelError."""
        return quantize_model(self, bits, scope)

    @property
    def transformer(self) -> ChatGLMForCausalLM:
        """The language model by the name that scripts for sat know: ``quantize(model.transformer, 8)``."""
        return self.language_model

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Pictures (N, 3, S, S) → (N, Q, D), in the dtype of the language model; reusable over turns.

        A side S other than the configured one is a multiple of the patch size: positions are then interpolated.
        """
        larger = pixel_values.shape[-1] != self.config.vision_config.image_size
        vision = self.vision_encoder(pixel_values, interpolate_pos_encoding=larger).last_hidden_state
        queries = self.query_tokens.expand(len(pixel_values), -1, -1)
        states = self.qformer(query_embeds=queries, encoder_hidden_states=vision).last_hidden_state
        return self.projector(states.to(self.projector.weight.dtype)).to(self.language_model.dtype)

    def splice(self, embeds: Tensor, image_embeds: Tensor, image_token_index: Tensor) -> Tensor:
        """Overwrite placeholders: (B, T, D), (B, P, Q, D), (B, T) → (B, T, D)."""
        flat = image_embeds.flatten(1, 2).to(embeds.dtype)
        index = image_token_index.clamp(min=0)[..., None].expand(-1, -1, flat.shape[-1])
        return torch.where((image_token_index >= 0)[..., None], flat.gather(1, index), embeds)

    def chat(self, tokenizer: Any, image_path: Any, query: str, history: Any = (), **settings: Any) -> Any:
        """(answer, history with it), as published: see :func:`huayu.chat.glm_calls.stream_chat` for ``settings``."""
        from huayu.chat.glm_calls import chat

        return chat(self, tokenizer, image_path, query, history, **settings)

    def stream_chat(self, tokenizer: Any, image_path: Any, query: str, history: Any = (), **settings: Any) -> Any:
        """The same after every token."""
        from huayu.chat.glm_calls import stream_chat

        return stream_chat(self, tokenizer, image_path, query, history, **settings)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_embeds: Tensor | None = None,
        image_token_index: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
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
                inputs_embeds = self.get_input_embeddings()(input_ids)
            inputs_embeds = self.splice(inputs_embeds, image_embeds, image_token_index)
        return self.language_model(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            labels=labels,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    def _read_pictures(self, pixel_values: Tensor, image_token_index: Tensor) -> Tensor:
        """(B, P, 3, S, S) → (B, P, Q, D); what only pads a row is not looked at and comes out as zeros."""
        count = image_token_index.amax(dim=1) // self.config.image_length + 1
        given = torch.arange(pixel_values.shape[1], device=count.device) < count[:, None]
        features = self.get_image_features(pixel_values[given])
        return features.new_zeros(*given.shape, *features.shape[1:]).index_put((given,), features)
