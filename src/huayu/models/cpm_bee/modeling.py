"""CPM-Bee: a bidirectional-context, causal-answer transformer over trees of text segments."""

# B batch, T tokens, K cached + T tokens, D width, H heads, E words of the request's own, V vocabulary

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

from huayu.models.compiled import CompilableBlocks
from huayu.models.cpm_bee.configuration import CpmBeeConfig
from huayu.models.cpm_bee.embedding import CpmBeeEmbedding
from huayu.models.cpm_bee.generation import METADATA, PackedGenerationMixin
from huayu.models.cpm_bee.position_bias import Layout, SegmentPositionBias

RESIDUAL_SCALE = 1.05
# Arguments that transformers hands to every model; they carry nothing for this one.
_FROM_THE_LIBRARY = ("return_dict", "cache_position")


class CpmBeeRMSNorm(nn.Module):
    """RMS norm that rounds to the model's dtype *before* the weight is applied. Source: spec viscpm §1.2."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) → (…, D)."""
        wide = x.float()
        # The norm is one pass over x where the library's mean of squares takes two, with a copy between.
        square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square() / x.shape[-1]
        return (wide * torch.rsqrt(square + self.eps)).to(x.dtype).mul_(self.weight)


class CpmBeeAttention(nn.Module):
    """Self-attention without biases; projections are divided by sqrt(fan-in) after the matmul.

    The division stays outside the linear modules so that adapters and quantised replacements are scaled alike.
    """

    def __init__(self, config: CpmBeeConfig, cache_index: int) -> None:
        super().__init__()
        inner = config.num_attention_heads * config.head_dim
        self.head_dim = config.head_dim
        self.cache_index = cache_index
        self.q_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.o_proj = nn.Linear(inner, config.hidden_size, bias=False)

    def forward(self, x: Tensor, bias: Tensor, query_valid: Tensor | None, cache: Cache | None) -> Tensor:
        """x (B, T, D); bias (B, H, T, K) with -inf where masked; query_valid (B, T, 1) or None → (B, T, D)."""
        batch, tokens, dim = x.shape
        q, k, v = (
            proj(x).div_(dim**0.5).view(batch, tokens, -1, self.head_dim).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        if cache is not None:
            k, v = cache.update(k, v, self.cache_index)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out = out.transpose(1, 2).reshape(batch, tokens, -1)
        if query_valid is not None:
            out = out * query_valid  # a token that sees nothing (padding) attends to nothing
        return self.o_proj(out).div_(out.shape[-1] ** 0.5)


class CpmBeeMLP(nn.Module):
    """Gated feed-forward with exact GELU; the output projection divides before its matmul (fp16 range)."""

    def __init__(self, config: CpmBeeConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        gate, up = (states.div_(x.shape[-1] ** 0.5) for states in (self.gate_proj(x), self.up_proj(x)))
        hidden = F.gelu(gate).mul_(up)
        return self.down_proj(hidden.div_(hidden.shape[-1] ** 0.5))


class CpmBeeLayer(GradientCheckpointingLayer):
    """Pre-norm block; either half may be absent (``mask_modules`` of the compressed models)."""

    def __init__(self, config: CpmBeeConfig, has_attention: bool, has_mlp: bool, cache_index: int) -> None:
        super().__init__()
        self.has_attention, self.has_mlp = has_attention, has_mlp
        if has_attention:
            self.attention_norm = CpmBeeRMSNorm(config.hidden_size, config.rms_norm_eps)
            self.attention = CpmBeeAttention(config, cache_index)
        if has_mlp:
            self.mlp_norm = CpmBeeRMSNorm(config.hidden_size, config.rms_norm_eps)
            self.mlp = CpmBeeMLP(config)

    def forward(self, x: Tensor, bias: Tensor, query_valid: Tensor | None, cache: Cache | None) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        if self.has_attention:
            x = (x + self.attention(self.attention_norm(x), bias, query_valid, cache)).div_(RESIDUAL_SCALE)
        if self.has_mlp:
            x = (x + self.mlp(self.mlp_norm(x))).div_(RESIDUAL_SCALE)
        return x


class CpmBeePreTrainedModel(PreTrainedModel):
    """Base of the CPM-Bee classes."""

    config_class = CpmBeeConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["CpmBeeLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding | SegmentPositionBias):
            init.normal_(module.weight, std=self.config.initializer_range)
        elif isinstance(module, CpmBeeRMSNorm):
            init.ones_(module.weight)


class CpmBeeModel(CompilableBlocks, CpmBeePreTrainedModel):
    """The language model without its output. Inputs are described at :class:`CpmBeeForCausalLM`."""

    def __init__(self, config: CpmBeeConfig) -> None:
        super().__init__(config)
        self.embed_tokens = CpmBeeEmbedding(config.vocab_size, config.hidden_size)
        self.position_bias = SegmentPositionBias(
            config.position_bias_num_buckets,
            config.position_bias_num_segment_buckets,
            config.position_bias_max_distance,
            config.num_attention_heads,
        )
        absent = config.mask_modules or [(False, False)] * config.num_hidden_layers
        before = [sum(not a for a, _ in absent[:i]) for i in range(len(absent))]
        self.layers = nn.ModuleList(
            CpmBeeLayer(config, not no_attention, not no_mlp, before[i])
            for i, (no_attention, no_mlp) in enumerate(absent)
        )
        self.norm = CpmBeeRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embed_tokens = value

    def embed(self, input_ids: Tensor, subscripts: Tensor | None, request_vocab: Tensor | None) -> Tensor:
        """Ids (B, T), subscripts (B, T) or None, request_vocab (B, E, 2) or None → (B, T, D).

        Ids from the vocabulary's size on name rows of ``request_vocab`` and take id and subscript from there.
        """
        if request_vocab is None or request_vocab.shape[1] == 0:
            return self.embed_tokens(input_ids, subscripts)
        row = input_ids - self.config.vocab_size
        own = row >= 0
        entry = request_vocab.gather(1, row.clamp(min=0)[..., None].expand(-1, -1, 2))
        subscripts = torch.zeros_like(input_ids) if subscripts is None else subscripts
        base = torch.where(own, entry[..., 0], input_ids)
        return self.embed_tokens(base, torch.where(own, entry[..., 1], subscripts))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        token_subscripts: Tensor | None = None,
        request_vocab: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """``hidden_states`` holds the input embeddings, then each block's output *before* the last norm."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        x = self.embed(input_ids, token_subscripts, request_vocab) if inputs_embeds is None else inputs_embeds
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if use_cache and past_key_values is None and not self.training:
            past_key_values = DynamicCache()
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        layout = self._layout(x, past, attention_mask, position_ids, kwargs)
        bias = self._attention_bias(layout, x.shape[1])
        query_valid = None
        if attention_mask is not None and x.shape[1] > 1:
            query_valid = layout.valid[:, -x.shape[1] :, None].to(x.dtype)
        if not output_hidden_states and (out := self.run_compiled(x, (bias, query_valid), past_key_values)) is not None:
            return BaseModelOutputWithPast(last_hidden_state=out, past_key_values=past_key_values)
        states = [x]
        for layer in self.layers:
            x = layer(x, bias, query_valid, past_key_values)
            if output_hidden_states:
                states.append(x)
        return BaseModelOutputWithPast(
            last_hidden_state=self.norm(x),
            past_key_values=past_key_values,
            hidden_states=tuple(states) if output_hidden_states else None,
        )

    def _layout(
        self, x: Tensor, past: int, valid: Tensor | None, position_ids: Tensor | None, named: dict[str, Any]
    ) -> Layout:
        """Complete the metadata: what is absent describes one plain causal text in one segment."""
        asked = {name for name, value in named.items() if value is not None and value is not False}
        if unknown := asked - {*METADATA, *_FROM_THE_LIBRARY}:
            raise TypeError(f"unknown model inputs: {', '.join(sorted(unknown))}")
        batch, keys = x.shape[0], past + x.shape[1]

        def column(value: Tensor | None, default: int) -> Tensor:
            if value is None:
                return torch.full((batch, keys), default, dtype=torch.long, device=x.device)
            if value.shape[-1] != keys:
                raise ValueError(f"metadata must cover all {keys} cached and new tokens, got {value.shape[-1]}")
            return value.long()

        if position_ids is None:
            position_ids = torch.arange(keys, device=x.device).expand(batch, -1)
        table = named.get("segment_rel")
        table = torch.zeros(batch, 1, dtype=torch.long, device=x.device) if table is None else table.long()
        return Layout(
            valid=column(valid, 1).bool(),
            context=column(named.get("is_context"), 0).bool(),
            sample_ids=None if named.get("sample_ids") is None else column(named["sample_ids"], 0),
            span_ids=None if named.get("span_ids") is None else column(named["span_ids"], 0),
            segment_ids=column(named.get("segment_ids"), 0),
            num_segments=column(named.get("num_segments"), 1),
            segment_rel_offset=column(named.get("segment_rel_offset"), 0),
            segment_rel=table,
            position_ids=column(position_ids, 0),
        )

    def _attention_bias(self, layout: Layout, queries: int) -> Tensor:
        """(B, H, T, K): position bias, -inf where masked; rows that see nothing are left open and zeroed later."""
        positions = layout.position_ids
        hidden = ~layout.visible(queries) & layout.valid[:, -queries:, None]
        return self.position_bias(positions[:, -queries:], positions, layout.relations(queries), hidden)


class CpmBeeForCausalLM(CpmBeePreTrainedModel, PackedGenerationMixin):
    """CPM-Bee with its tied output.

    Tensors (B batch, T new tokens, K = cached + T): ``input_ids`` and ``token_subscripts`` (B, T); ``attention_mask``
    (B, K) 1 valid; ``is_context``, ``sample_ids``, ``span_ids``, ``segment_ids``, ``num_segments``,
    ``segment_rel_offset``, ``position_ids`` (B, K) int; ``segment_rel`` (B, R) int; ``request_vocab`` (B, E, 2) int,
    rows (base id, subscript), padded with -1. All but the ids are optional: without them it is a plain causal model.

    Source: spec viscpm §1.
    """

    def __init__(self, config: CpmBeeConfig) -> None:
        super().__init__(config)
        self.model = CpmBeeModel(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.embed_tokens = value

    def get_output_embeddings(self) -> None:
        """None: the input embedding itself computes the logits."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        request_vocab: Tensor | None = None,
        loss_only: bool = False,
        num_items_in_batch: int | Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits (B, T', V + E) for the last ``logits_to_keep`` tokens (0: all; or a tensor of indices).

        ``labels`` (B, T), -100 ignored, name for each token the one that comes next: they are already shifted, since
        the end of an answer is a target but never an input. The loss is their mean cross entropy in fp32, or its sum
        divided by ``num_items_in_batch``, the labels of all batches whose gradients are added up. With ``loss_only``
        logits are computed for labelled tokens alone and not returned.
        """
        out = self.model(input_ids=input_ids, request_vocab=request_vocab, **kwargs)
        hidden, embedding = out.last_hidden_state, self.model.embed_tokens
        logits = loss = None
        if loss_only and labels is not None:
            row, column = (labels != -100).nonzero(as_tuple=True)
            own = None if request_vocab is None else request_vocab[row]
            scores = embedding(hidden_states=hidden[row, column][:, None], request_vocab=own)[:, 0]
            loss = _cross_entropy(scores, labels[row, column], num_items_in_batch)
        else:
            keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = embedding(hidden_states=hidden[:, keep], request_vocab=request_vocab)
            if labels is not None:
                loss = _cross_entropy(logits.flatten(0, 1), labels[:, keep].flatten(), num_items_in_batch)
        return CausalLMOutputWithPast(
            loss=loss, logits=logits, past_key_values=out.past_key_values, hidden_states=out.hidden_states
        )


def _cross_entropy(logits: Tensor, labels: Tensor, count: int | Tensor | None) -> Tensor:
    """(L, V + E), (L,) with -100 ignored → scalar fp32: the mean, or the sum divided by ``count``."""
    loss = F.cross_entropy(logits.float(), labels.long(), reduction="mean" if count is None else "sum")
    return loss if count is None else loss / count
