"""Published tensor names of VisualGLM ⇄ ours, in both formats. Source: spec visualglm §4."""

from __future__ import annotations

from itertools import product
from typing import Any

from huayu.checkpoints.keymap import KeyMap
from huayu.checkpoints.recast import Batched, Stacked
from huayu.models.chatglm import checkpoint as chatglm

QFORMER_LAYERS = 12
_TENSORS = ("weight", "bias")
_VIT_LAYER = "transformer.layers.{n}."
_VIT = (
    ("mixins.patch_embedding.proj", "embeddings.patch_embedding"),
    (f"{_VIT_LAYER}input_layernorm", "encoder.layers.{n}.layer_norm1"),
    (f"{_VIT_LAYER}attention.query_key_value", "encoder.layers.{n}.self_attn.qkv"),
    (f"{_VIT_LAYER}attention.dense", "encoder.layers.{n}.self_attn.projection"),
    (f"{_VIT_LAYER}post_attention_layernorm", "encoder.layers.{n}.layer_norm2"),
    (f"{_VIT_LAYER}mlp.dense_h_to_4h", "encoder.layers.{n}.mlp.fc1"),
    (f"{_VIT_LAYER}mlp.dense_4h_to_h", "encoder.layers.{n}.mlp.fc2"),
    ("mixins.cls.ln_vision", "post_layernorm"),
)
VIT_KEYMAP = KeyMap.of(
    [
        ("transformer.word_embeddings.weight#batched", "embeddings.class_embedding"),
        ("transformer.position_embeddings.weight#batched", "embeddings.position_embedding"),
        *((f"{a}.{t}", f"{b}.{t}") for (a, b), t in product(_VIT, _TENSORS)),
    ],
    recasts={f"transformer.{name}_embeddings.weight": Batched() for name in ("word", "position")},
)

_LAYER, _OURS = "transformer.layers.{n}.", "qformer.encoder.layer.{n}."
_QFORMER = (
    (f"{_LAYER}attention.dense", f"{_OURS}attention.output.dense"),
    (f"{_LAYER}post_attention_layernorm", f"{_OURS}attention.output.LayerNorm"),
    (f"{_LAYER}cross_attention.query", f"{_OURS}crossattention.attention.query"),
    (f"{_LAYER}cross_attention.dense", f"{_OURS}crossattention.output.dense"),
    (f"{_LAYER}post_cross_attention_layernorm", f"{_OURS}crossattention.output.LayerNorm"),
    (f"{_LAYER}mlp.dense_h_to_4h", f"{_OURS}intermediate_query.dense"),
    (f"{_LAYER}mlp.dense_4h_to_h", f"{_OURS}output_query.dense"),
)
# Fused linears: published name, ours, and the parts from top to bottom.
_FUSED = (
    (f"{_LAYER}attention.query_key_value", f"{_OURS}attention.attention", ("query", "key", "value")),
    (f"{_LAYER}cross_attention.key_value", f"{_OURS}crossattention.attention", ("key", "value")),
)


def qformer_keymap(layers: int = QFORMER_LAYERS) -> KeyMap:
    """Names below ``qformer.`` ⇄ ours, queries included.

    The published norm at the start of a layer is the library's at the end of the layer before.
    """
    norms = [
        ("transformer.layers.0.input_layernorm", "qformer.layernorm"),
        *(
            (f"transformer.layers.{n}.input_layernorm", f"qformer.encoder.layer.{n - 1}.output_query.LayerNorm")
            for n in range(1, layers)
        ),
        ("transformer.final_layernorm", f"qformer.encoder.layer.{layers - 1}.output_query.LayerNorm"),
    ]
    return KeyMap.of(
        [
            ("transformer.word_embeddings.weight", "query_tokens"),
            *((f"{a}.{t}", f"{b}.{t}") for (a, b), t in product((*norms, *_QFORMER), _TENSORS)),
            *(
                (f"{published}.{tensor}#{part}", f"{ours}.{part}.{tensor}")
                for (published, ours, parts), tensor in product(_FUSED, _TENSORS)
                for part in parts
            ),
        ],
        recasts={f"{published}.{t}": Stacked(parts) for (published, _, parts), t in product(_FUSED, _TENSORS)},
    )


def vision_keymap(layers: int = QFORMER_LAYERS) -> KeyMap:
    """All that turns a picture into embeddings."""
    projector = KeyMap.of([(f"glm_proj.{tensor}", f"projector.{tensor}") for tensor in _TENSORS])
    return VIT_KEYMAP.prefixed("vit.", "vision_encoder.") + qformer_keymap(layers).prefixed("qformer.", "") + projector


def hf_keymap(
    heads: int = chatglm.HEADS,
    layers: int = chatglm.LAYERS,
    qformer_layers: int = QFORMER_LAYERS,
    *,
    prefix_projection: bool = False,
) -> KeyMap:
    """Names of the Hugging Face format, for a language model with so many heads and layers."""
    text = chatglm.hf_projected_keymap if prefix_projection else chatglm.hf_keymap
    vision = vision_keymap(qformer_layers).prefixed("image_encoder.", "")
    return text(heads, layers).prefixed("", "language_model.") + vision


def sat_keymap(qformer_layers: int = QFORMER_LAYERS) -> KeyMap:
    """Names of the SwissArmyTransformer format (of the state dict below its ``module``)."""
    vision = vision_keymap(qformer_layers).prefixed("mixins.eva.model.", "")
    return chatglm.sat_keymap().prefixed("", "language_model.") + vision


HF_KEYMAP, SAT_KEYMAP = hf_keymap(), sat_keymap()
# Settings of the published demos; answers go on to the end of the context. Source: spec visualglm §7.
PUBLISHED_GENERATION: dict[str, Any] = {
    "search": "sample",
    "temperature": 0.8,
    "top_k": 100,
    "top_p": 0.4,
    "repetition_penalty": 1.2,
    "max_new_tokens": 2048,
}
# Presence of these published keys tells the family and the format.
HF_SIGNATURE = (
    "transformer.word_embeddings.weight",
    "lm_head.weight",
    "image_encoder.glm_proj.weight",
    "image_encoder.vit.mixins.cls.ln_vision.weight",
)
SAT_SIGNATURE = (
    "transformer.word_embeddings.weight",
    "mixins.chatglm-final.lm_head.weight",
    "mixins.eva.model.glm_proj.weight",
    "mixins.eva.model.vit.mixins.cls.ln_vision.weight",
)
