"""ChatGLM-6B: a bidirectional context, a causal answer, two rotary positions, residuals that take the normed input."""

# B batch, T new tokens, K cached + T tokens, P prefix tokens, D width, H heads, W width of a head, V vocabulary

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from huayu.models.chatglm.configuration import ChatGLMConfig
from huayu.models.chatglm.generation import ChatGLMGenerationMixin, restarted
from huayu.models.chatglm.positions import position_ids_of, rotary_angles, rotate, visible
from huayu.models.chatglm.scopes import scopes
from huayu.models.compiled import CompilableBlocks
from huayu.quantization.swap import as_configured, quantize_model

IGNORED = -100
_PREFIX_STD = 0.01
# Arguments that transformers hands to every model; they carry nothing for this one.
_FROM_THE_LIBRARY = ("return_dict", "cache_position")


class ChatGLMAttention(nn.Module):
    """Attention of one layer; rows of ``qkv_proj`` are [query, key, value][head][width]."""

    def __init__(self, config: ChatGLMConfig, layer: int) -> None:
        super().__init__()
        self.head_dim, self.layer = config.head_dim, layer
        self.qkv_proj = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)
        if config.pre_seq_len and not config.prefix_projection:
            self.prefix = nn.Parameter(torch.empty(2, config.num_attention_heads, config.pre_seq_len, self.head_dim))
        else:
            self.register_parameter("prefix", None)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        seen: Tensor | None,
        padding: Tensor | None,
        prefix: Tensor | None,
        cache: Cache | None,
    ) -> Tensor:
        """x (B, T, D) → (B, T, D); see :class:`ChatGLMModel` for the rest.

        Queries of padding are zero: such a row takes the plain mean of all values, as the published model's does.
        """
        batch, tokens, _ = x.shape
        heads = self.qkv_proj(x).view(batch, tokens, -1, self.head_dim).transpose(1, 2)
        turned, v = heads.split(2 * heads.shape[1] // 3, dim=1)
        q, k = rotate(turned, *angles).chunk(2, dim=1)
        if cache is not None:
            k, v = cache.update(k, v, self.layer)
        prefix = self.prefix if prefix is None else prefix
        if prefix is not None:  # never rotated, seen by every token, no part of the cache
            own_k, own_v = prefix.to(k.dtype)[:, None].expand(-1, batch, -1, -1, -1)
            k, v = torch.cat([own_k, k], dim=2), torch.cat([own_v, v], dim=2)
        if padding is not None:
            q = q.masked_fill(padding, 0)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.o_proj(out.transpose(1, 2).reshape(batch, tokens, -1))


class ChatGLMMLP(nn.Module):
    """Linear → GELU in its tanh form → linear."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.inner_hidden_size)
        self.fc2 = nn.Linear(config.inner_hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class ChatGLMLayer(GradientCheckpointingLayer):
    """Both residuals take the *normed* input, times sqrt(2 · layers). Source: spec visualglm §2."""

    def __init__(self, config: ChatGLMConfig, layer: int) -> None:
        super().__init__()
        self.alpha = (2 * config.num_hidden_layers) ** 0.5
        self.input_layernorm = nn.LayerNorm(config.hidden_size, config.layernorm_epsilon)
        self.attention = ChatGLMAttention(config, layer)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, config.layernorm_epsilon)
        self.mlp = ChatGLMMLP(config)

    def forward(self, x: Tensor, *context: Any) -> Tensor:
        """(B, T, D) → (B, T, D); ``context`` is what the attention takes besides."""
        x = self.input_layernorm(x)
        x = self.attention(x, *context) + x * self.alpha
        x = self.post_attention_layernorm(x)
        return self.mlp(x) + x * self.alpha


class ChatGLMPrefixEncoder(nn.Module):
    """The prefix of all layers from a small network, whose input is one learned vector for each prefix token."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.shape = (config.num_hidden_layers, 2, config.num_attention_heads, config.head_dim)
        self.embed = nn.Parameter(torch.empty(config.pre_seq_len, config.hidden_size))
        self.fc1 = nn.Linear(config.hidden_size, config.hidden_size)
        self.fc2 = nn.Linear(config.hidden_size, 2 * config.num_hidden_layers * config.hidden_size)

    def forward(self) -> Tensor:
        """→ keys and values (layers, 2, H, P, W)."""
        return self.fc2(torch.tanh(self.fc1(self.embed))).unflatten(1, self.shape).permute(1, 2, 3, 0, 4)


class ChatGLMPreTrainedModel(PreTrainedModel):
    """Base of the ChatGLM classes."""

    config_class = ChatGLMConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["ChatGLMLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, ChatGLMAttention) and module.prefix is not None:
            init.normal_(module.prefix, std=_PREFIX_STD)
        elif isinstance(module, ChatGLMPrefixEncoder):
            init.normal_(module.embed, std=_PREFIX_STD)
        elif isinstance(module, nn.Linear | nn.Embedding):
            init.normal_(module.weight, std=self.config.get_text_config().initializer_range)
            if isinstance(module, nn.Linear) and module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)


class ChatGLMModel(CompilableBlocks, ChatGLMPreTrainedModel):
    """The language model without its output. Inputs are described at :class:`ChatGLMForCausalLM`."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(ChatGLMLayer(config, n) for n in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, config.layernorm_epsilon)
        if config.pre_seq_len and config.prefix_projection:
            self.prefix_encoder = ChatGLMPrefixEncoder(config)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embed_tokens = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """``hidden_states`` holds each layer's input, then the output of the last norm, as published.

        Ids may come beside embeddings, which then count: positions are found by ids.
        """
        if unknown := [name for name, value in kwargs.items() if name not in _FROM_THE_LIBRARY and value]:
            raise TypeError(f"unknown model inputs: {', '.join(sorted(unknown))}")
        if input_ids is None and inputs_embeds is None:
            raise ValueError("give input_ids or inputs_embeds")
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if use_cache and past_key_values is None and not self.training:
            past_key_values = DynamicCache()
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        if position_ids is None:
            position_ids, attention_mask = self._positions(input_ids, attention_mask, past)
        context = self._context(x, position_ids[..., -x.shape[1] :], attention_mask, past)
        prefixes = self.prefix_encoder() if hasattr(self, "prefix_encoder") else [None] * len(self.layers)
        if not output_hidden_states and prefixes[0] is None:
            out = self.run_compiled(x, (*context, None), past_key_values)
            if out is not None:
                return BaseModelOutputWithPast(last_hidden_state=out, past_key_values=past_key_values)
        states: list[Tensor] = []
        for layer, prefix in zip(self.layers, prefixes, strict=True):
            states.append(x)
            x = layer(x, *context, prefix, past_key_values)
        x = self.norm(x)
        return BaseModelOutputWithPast(
            last_hidden_state=x,
            past_key_values=past_key_values,
            hidden_states=(*states, x) if output_hidden_states else None,
        )

    def _positions(self, input_ids: Tensor | None, attention_mask: Tensor | None, past: int) -> tuple[Tensor, Any]:
        """Positions and padding of a prompt that comes without them."""
        if input_ids is None or past:
            raise ValueError("inputs_embeds, and tokens that follow cached ones, need position_ids (B, 2, T)")
        if attention_mask is None:
            attention_mask = restarted(input_ids, self.config.pad_token_id)
        return position_ids_of(input_ids, self.config, attention_mask), attention_mask

    def _context(self, x: Tensor, position_ids: Tensor, attention_mask: Tensor | None, past: int) -> tuple[Any, ...]:
        """For every layer: cosine and signed sine (B, 1, T, 2, W/2), who sees whom (B, 1, T, P + K) or None, padding.

        Padding is (B, 1, T, 1), True for queries to leave out, or None. Raises ValueError for inputs that do not fit.
        """
        batch, tokens, keys = *x.shape[:2], past + x.shape[1]
        if position_ids.shape != (batch, 2, tokens):
            raise ValueError(f"position_ids must be {batch}×2×{tokens} at least, got {list(position_ids.shape)}")
        if attention_mask is not None and attention_mask.shape != (batch, keys):
            raise ValueError(f"attention_mask must be {batch}×{keys}, got {list(attention_mask.shape)}")
        if attention_mask is not None and not x.is_cuda and bool(attention_mask.all()):
            attention_mask = None
        angles = rotary_angles(position_ids.transpose(1, 2)[:, None], self.config.head_dim // 2, self.config.rope)
        cosine, sine = (table.to(x.dtype) for table in angles)
        sine[..., : sine.shape[-1] // 2].neg_()
        seen, padding = visible(position_ids[:, 1] == 0, attention_mask, past), None
        if attention_mask is not None:
            padding = ~attention_mask[:, None, past:, None].bool()
        if seen is not None and self.config.pre_seq_len:
            seen = F.pad(seen, (self.config.pre_seq_len, 0), value=True)
        return (cosine, sine), seen, padding


class ChatGLMForCausalLM(ChatGLMPreTrainedModel, ChatGLMGenerationMixin):
    """ChatGLM with its output matrix, which is not tied to the embedding.

    Tensors (B batch, T new tokens, K = cached + T): ``input_ids`` (B, T) or ``inputs_embeds`` (B, T, D);
    ``attention_mask`` (B, K) 1 for real tokens, None when there is no padding; ``position_ids`` (B, 2, ≥T), of which
    the last T count. A whole prompt may leave out positions: they are found by its ids, counted from the first real
    token of each row. All of a context must come in one call: its tokens see each other.

    Source: spec visualglm §2.
    """

    quantization_scopes = scopes()

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__(config)
        self.model = ChatGLMModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        as_configured(self)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.embed_tokens = value

    def quantize(self, bits: int | str, scope: str = "published") -> Any:
        """Pack the linears that ``scope`` names in 8 or 4 bits, in place, and return the model. Raises ModelError."""
        return quantize_model(self, bits, scope)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, value: nn.Module) -> None:
        self.lm_head = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: int | Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits (B, T', V) for the last ``logits_to_keep`` tokens (0: all; or a tensor of indices).

        ``labels`` (B, T), -100 ignored, are the ids themselves: the loss compares each with the logits one token
        before it, in fp32; their mean, or their sum divided by ``num_items_in_batch``. Raises ValueError for labels
        together with ``logits_to_keep``.
        """
        out = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(out.last_hidden_state[:, keep])
        loss = None
        if labels is not None:
            if logits.shape[1] != labels.shape[1]:
                raise ValueError("labels need the logits of all tokens: leave out logits_to_keep")
            loss = _cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), num_items_in_batch)
        return CausalLMOutputWithPast(
            loss=loss, logits=logits, past_key_values=out.past_key_values, hidden_states=out.hidden_states
        )


def _cross_entropy(logits: Tensor, labels: Tensor, count: int | Tensor | None) -> Tensor:
    """(L, V), (L,) with -100 ignored → scalar fp32: the mean, or the sum divided by ``count``."""
    loss = F.cross_entropy(
        logits.float(), labels.long(), ignore_index=IGNORED, reduction="mean" if count is None else "sum"
    )
    return loss if count is None else loss / count
