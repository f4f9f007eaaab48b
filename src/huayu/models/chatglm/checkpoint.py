"""Published tensor names of the language model ⇄ ours, in both formats. Source: spec visualglm §2, 4, 8."""

from __future__ import annotations

from itertools import product

from huayu.checkpoints.keymap import KeyMap
from huayu.checkpoints.recast import ByHead, PrefixTable, Recast

HEADS, LAYERS = 32, 28
_ROTARY = "frequencies of the rotary positions; they are computed, published code does not read them either"
_POSITIONS = "position table that the published model has no use for"
_LAYER = "transformer.layers.{n}."
_LINEARS = (
    (f"{_LAYER}attention.dense", "model.layers.{n}.attention.o_proj"),
    (f"{_LAYER}mlp.dense_h_to_4h", "model.layers.{n}.mlp.fc1"),
    (f"{_LAYER}mlp.dense_4h_to_h", "model.layers.{n}.mlp.fc2"),
)
_NORMS = (
    (f"{_LAYER}input_layernorm", "model.layers.{n}.input_layernorm"),
    (f"{_LAYER}post_attention_layernorm", "model.layers.{n}.post_attention_layernorm"),
    ("transformer.final_layernorm", "model.norm"),
)
_QKV = (f"{_LAYER}attention.query_key_value", "model.layers.{n}.attention.qkv_proj")
# A published quantised linear also has the scales of its rows.
_OF_LINEAR, _OF_NORM = ("weight", "bias", "weight_scale"), ("weight", "bias")
_RULES = [
    ("transformer.word_embeddings.weight", "model.embed_tokens.weight"),
    *((f"{a}.{t}", f"{b}.{t}") for (a, b), t in product(_LINEARS, _OF_LINEAR)),
    *((f"{a}.{t}", f"{b}.{t}") for (a, b), t in product(_NORMS, _OF_NORM)),
]


def hf_keymap(heads: int = HEADS, layers: int = LAYERS) -> KeyMap:
    """Names of the Hugging Face format, whose fused rows go head by head; a trained prefix is one table there."""
    by_head = ByHead(heads)
    prefix, network = "transformer.prefix_encoder.", "model.prefix_encoder."
    table: dict[str, Recast] = {f"{prefix}embedding.weight": PrefixTable(layers, heads)}
    return KeyMap.of(
        [
            *_RULES,
            ("lm_head.weight", "lm_head.weight"),
            *((f"{_QKV[0]}.{tensor}#grouped", f"{_QKV[1]}.{tensor}") for tensor in _OF_LINEAR),
            *((f"{prefix}embedding.weight#{n}", f"model.layers.{n}.attention.prefix") for n in range(layers)),
            *((f"{prefix}trans.{a}.{t}", f"{network}{b}.{t}") for (a, b), t in product(_NETWORK, _OF_NORM)),
        ],
        dropped={f"{_LAYER}attention.rotary_emb.inv_freq": _ROTARY},
        recasts={f"{_QKV[0]}.{tensor}": by_head for tensor in _OF_LINEAR} | table,
    )


_NETWORK = (("0", "fc1"), ("2", "fc2"))


def hf_projected_keymap(heads: int = HEADS, layers: int = LAYERS) -> KeyMap:
    """As :func:`hf_keymap`, for a prefix that a small network computes: its table is the network's input."""
    table = "transformer.prefix_encoder.embedding.weight"
    plain = hf_keymap(heads, layers)
    rules = [(a, b) for a, b in plain.rules if not a.startswith(f"{table}#")]
    recasts = {key: recast for key, recast in plain.recasts if key != table}
    return KeyMap.of([*rules, (table, "model.prefix_encoder.embed")], plain.dropped, recasts)


def sat_keymap() -> KeyMap:
    """Names of the SwissArmyTransformer format, whose rows are ordered as ours."""
    return KeyMap.of(
        [
            *_RULES,
            ("mixins.chatglm-final.lm_head.weight", "lm_head.weight"),
            *((f"{_QKV[0]}.{tensor}", f"{_QKV[1]}.{tensor}") for tensor in _OF_LINEAR),
            ("mixins.ptuning.prefix.{n}", "model.layers.{n}.attention.prefix"),
        ],
        dropped={
            "mixins.chatglm-attn.rotary_emb.inv_freq": _ROTARY,
            "transformer.position_embeddings.weight": _POSITIONS,
        },
    )


HF_KEYMAP, SAT_KEYMAP = hf_keymap(), sat_keymap()
