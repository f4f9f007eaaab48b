"""Published tensor names of CPM-Bee ⇄ ours. Source: spec viscpm §7.1 (without its ``llm.`` prefix)."""

from __future__ import annotations

from huayu.checkpoints.keymap import KeyMap

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
