"""Published tensor names of CPM-Bee ⇄ ours. Source: spec viscpm §7.1 (without its ``llm.`` prefix)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from huayu.checkpoints.keymap import KeyMap

if TYPE_CHECKING:
    from huayu.models.cpm_bee.configuration import CpmBeeConfig

_SEGMENT_BUCKETS = 256

KEYMAP = KeyMap.of(
    [
        ("input_embedding.weight", "model.embed_tokens.weight"),
        ("position_bias.relative_attention_bias", "model.position_bias.weight"),
        ("encoder.output_layernorm.weight", "model.norm.weight"),
        (
            "encoder.layers.{n}.self_att.layernorm_before_attention.weight",
            "model.layers.{n}.attention_norm.weight",
        ),
        (
            "encoder.layers.{n}.self_att.self_attention.project_q.weight",
            "model.layers.{n}.attention.q_proj.weight",
        ),
        (
            "encoder.layers.{n}.self_att.self_attention.project_k.weight",
            "model.layers.{n}.attention.k_proj.weight",
        ),
        (
            "encoder.layers.{n}.self_att.self_attention.project_v.weight",
            "model.layers.{n}.attention.v_proj.weight",
        ),
        (
            "encoder.layers.{n}.self_att.self_attention.attention_out.weight",
            "model.layers.{n}.attention.o_proj.weight",
        ),
        ("encoder.layers.{n}.ffn.layernorm_before_ffn.weight", "model.layers.{n}.mlp_norm.weight"),
        ("encoder.layers.{n}.ffn.ffn.w_in.w_0.weight", "model.layers.{n}.mlp.gate_proj.weight"),
        ("encoder.layers.{n}.ffn.ffn.w_in.w_1.weight", "model.layers.{n}.mlp.up_proj.weight"),
        ("encoder.layers.{n}.ffn.ffn.w_out.weight", "model.layers.{n}.mlp.down_proj.weight"),
    ]
)


def text_config(shapes: Mapping[str, tuple[int, ...]], prefix: str = "") -> CpmBeeConfig:
    """The configuration of a language model with these published names (below ``prefix``) and shapes.

    Raises KeyError for an absent key. Source: spec viscpm §1.1, 7.1.
    """
    from huayu.models.cpm_bee.configuration import CpmBeeConfig

    vocab_size, hidden = shapes[f"{prefix}input_embedding.weight"]
    buckets, heads = shapes[f"{prefix}position_bias.relative_attention_bias"]
    layer = re.escape(prefix) + r"encoder\.layers\.(\d+)\."
    attention = numbered(shapes, layer + r"self_att\.self_attention\.project_q\.weight")
    mlp = numbered(shapes, layer + r"ffn\.ffn\.w_in\.w_0\.weight")
    count = 1 + max(attention | mlp)
    absent = [[n not in attention, n not in mlp] for n in range(count)]
    layers = f"{prefix}encoder.layers."
    return CpmBeeConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_hidden_layers=count,
        num_attention_heads=heads,
        head_dim=shapes[f"{layers}{min(attention)}.self_att.self_attention.project_q.weight"][0] // heads,
        intermediate_size=shapes[f"{layers}{min(mlp)}.ffn.ffn.w_in.w_0.weight"][0],
        position_bias_num_buckets=buckets - _SEGMENT_BUCKETS,
        mask_modules=absent if any(map(any, absent)) else None,
    )


def numbered(names: Iterable[str], pattern: str) -> set[int]:
    """The numbers that the one group of ``pattern`` takes in ``names`` that match as a whole."""
    return {int(match[1]) for name in names if (match := re.fullmatch(pattern, name))}
