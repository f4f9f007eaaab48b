"""Published tensor names of the BEiT-3 branch ⇄ ours. Source: spec viscpm §7.1 (without its ``vpm.`` prefix)."""

from __future__ import annotations

from itertools import product

from huayu.checkpoints.keymap import KeyMap

_EXPERTS = (("A", "vision"), ("B", "query"))
_TENSORS = ("weight", "bias")


def _multiway(published: str, ours: str) -> list[tuple[str, str]]:
    """Rules of one module held twice; ``{x}`` marks the expert's place."""
    return [
        (f"{published.replace('{x}', a)}.{tensor}", f"{ours.replace('{x}', b)}.{tensor}")
        for (a, b), tensor in product(_EXPERTS, _TENSORS)
    ]


_LAYER = "beit3.encoder.layers.{n}."
_MODULES = [
    *(
        (f"{_LAYER}self_attn.{name}.{{x}}", f"layers.{{n}}.attention.{name}.{{x}}")
        for name in ("q_proj", "k_proj", "v_proj", "out_proj")
    ),
    (f"{_LAYER}self_attn.inner_attn_ln.{{x}}", "layers.{n}.attention.inner_norm.{x}"),
    (f"{_LAYER}self_attn_layer_norm.{{x}}", "layers.{n}.attention_norm.{x}"),
    (f"{_LAYER}final_layer_norm.{{x}}", "layers.{n}.mlp_norm.{x}"),
    (f"{_LAYER}ffn.{{x}}.fc1", "layers.{n}.mlp.{x}.fc1"),
    (f"{_LAYER}ffn.{{x}}.fc2", "layers.{n}.mlp.{x}.fc2"),
    (f"{_LAYER}ffn.{{x}}.ffn_layernorm", "layers.{n}.mlp.{x}.norm"),
    ("beit3.encoder.layer_norm.{x}", "norm.{x}"),
]

KEYMAP = KeyMap.of(
    [
        ("beit3.vision_embed.cls_token", "patch_embedding.cls_token"),
        ("beit3.vision_embed.proj.weight", "patch_embedding.proj.weight"),
        ("beit3.vision_embed.proj.bias", "patch_embedding.proj.bias"),
        ("beit3.encoder.embed_positions.A.weight", "vision_positions.weight"),
        ("beit3.encoder.embed_positions.B.weight", "query_positions.weight"),
        *(rule for published, ours in _MODULES for rule in _multiway(published, ours)),
    ],
    dropped={
        "beit3.text_embed.weight": "text embedding of the pre-trained encoder; only initialises fresh queries",
        "beit3.vision_embed.mask_token": "mask token of masked-picture pre-training; never read",
        "mim_head.weight": "head of masked-picture pre-training; never read",
        "mim_head.bias": "head of masked-picture pre-training; never read",
    },
)
