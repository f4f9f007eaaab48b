"""From published names to a configuration, and back to the published settings, in both formats."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from huayu.checkpoints import lora
from huayu.checkpoints.keymap import KeyMap
from huayu.checkpoints.reader import LazyTensors
from huayu.models.visualglm import checkpoint
from huayu.models.visualglm.configuration import VisualGLMConfig

MODEL = "VisualGLMForConditionalGeneration"
SIGNATURES = (checkpoint.HF_SIGNATURE, checkpoint.SAT_SIGNATURE)
VOCABULARY = "ice_text.model"
# Width of a head in the published model; numbers of heads leave no trace in the shapes.
_HEAD, _VISION_HEAD, _QFORMER_HEAD = 128, 88, 64
_SAT_PREFIX, _HF_PREFIX = "mixins.ptuning.prefix.0", "transformer.prefix_encoder.embedding.weight"
_SAT_HEAD = "mixins.chatglm-final.lm_head.weight"
_FIRST_LINEAR = "transformer.layers.0.attention.dense"

Shapes = Mapping[str, tuple[int, ...]]


def is_sat(names: Iterable[str]) -> bool:
    """Whether these names are of the SwissArmyTransformer format."""
    return _SAT_HEAD in names


def prepare(tensors: LazyTensors) -> LazyTensors:
    """The tensors that the model is filled with: LoRA pairs of a fine-tuned checkpoint are merged. Source: spec §9."""
    return lora.merged(tensors) if lora.is_lora(tensors) else tensors


def configure(shapes: Shapes, settings: Mapping[str, Any] | None = None) -> VisualGLMConfig:
    """The configuration of a checkpoint with these published names and shapes (LoRA merged).

    ``settings``: the published json of either format; it decides what shapes cannot tell. Without it heads are as wide
    and ids the same as in the published 6B model. Raises KeyError for an absent key. Source: spec visualglm §1.
    """
    values = dict(settings) if settings and {"num_layers", "vocab_size"} <= settings.keys() else _sizes(shapes)
    values.pop("pre_seq_len", None)  # sat writes it down for every fine-tune, whether or not there is a prefix
    if _SAT_PREFIX in shapes:
        values["pre_seq_len"] = shapes[_SAT_PREFIX][2]
    elif _HF_PREFIX in shapes:
        values["pre_seq_len"] = shapes[_HF_PREFIX][0]
        values["prefix_projection"] = "transformer.prefix_encoder.trans.0.weight" in shapes
    values["quantization_bit"] = None
    if f"{_FIRST_LINEAR}.weight_scale" in shapes:
        rows, columns = shapes[f"{_FIRST_LINEAR}.weight"]
        values["quantization_bit"] = 8 * columns // rows
    return VisualGLMConfig.from_published(values)


def keymap(config: Any, names: Iterable[str] = (), *, sat: bool | None = None) -> KeyMap:
    """The map of a model of these sizes; ``sat`` None: of the format that ``names`` have."""
    layers, text = config.qformer_config.num_hidden_layers, config.text_config
    if is_sat(names) if sat is None else sat:
        return checkpoint.sat_keymap(layers)
    sizes = text.num_attention_heads, text.num_hidden_layers, layers
    return checkpoint.hf_keymap(*sizes, prefix_projection=bool(text.prefix_projection))


def processor(config: VisualGLMConfig, vocabulary: Path) -> Any:
    """The processor of a model with this configuration and SentencePiece file."""
    from huayu.models.chatglm.tokenization import ChatGLMTokenizer
    from huayu.models.visualglm.processing import VisualGLMImageProcessor, VisualGLMProcessor

    vision: Any = config.vision_config
    pictures = VisualGLMImageProcessor(size=vision.image_size)
    return VisualGLMProcessor(pictures, ChatGLMTokenizer(str(vocabulary)), config.image_length)


def settings_of(config: Any, *, sat: bool) -> dict[str, Any]:
    """The published json for a model of ours. Source: spec visualglm §1."""
    text, vision, qformer = config.text_config, config.vision_config, config.qformer_config
    tower = {
        "num_layers": vision.num_hidden_layers,
        "hidden_size": vision.hidden_size,
        "num_attention_heads": vision.num_attention_heads,
        "vocab_size": 1,
        "layernorm_order": "pre",
        "max_sequence_length": (vision.image_size // vision.patch_size) ** 2 + 1,
        "inner_hidden_size": vision.intermediate_size,
        "use_final_layernorm": False,
        "layernorm_epsilon": vision.layer_norm_eps,
        "image_size": [vision.image_size, vision.image_size],
        "pre_len": 1,
        "post_len": 0,
        "in_channels": 3,
        "num_classes": 0,
        "patch_size": vision.patch_size,
    }
    step = qformer.cross_attention_frequency
    queries = {
        "num_layers": qformer.num_hidden_layers,
        "hidden_size": qformer.hidden_size,
        "num_attention_heads": qformer.num_attention_heads,
        "vocab_size": config.image_length,
        "layernorm_order": "post",
        "max_sequence_length": 0,
        "is_decoder": [n % step == 0 for n in range(qformer.num_hidden_layers)],
        "cross_attn_hidden_size": qformer.encoder_hidden_size,
        "layernorm_epsilon": qformer.layer_norm_eps,
    }
    if qformer.intermediate_size != 4 * qformer.hidden_size:
        queries["inner_hidden_size"] = qformer.intermediate_size
    names = ("vocab_size", "hidden_size", "num_attention_heads", "inner_hidden_size", "max_sequence_length")
    own = {name: getattr(text, name) for name in names} | {
        "num_layers": text.num_hidden_layers,
        "layernorm_epsilon": text.layernorm_epsilon,
        "image_length": config.image_length,
        **{f"{name}_token_id": getattr(text, f"{name}_token_id") for name in ("bos", "mask", "gmask", "pad")},
    }
    if sat:
        head = {"model_class": "VisualGLMModel", "tokenizer_type": "THUDM/chatglm-6b", "model_parallel_size": 1}
        prefix = {"pre_seq_len": text.pre_seq_len, "use_ptuning": True} if text.pre_seq_len else {}
        return {**head, "layernorm_order": "post", **own, **prefix, "eva_args": tower, "qformer_args": queries}
    head = {"model_type": "chatglm", "architectures": ["ChatGLMForConditionalGenerationWithImage"]}
    prefix = {"pre_seq_len": text.pre_seq_len, "prefix_projection": text.prefix_projection} if text.pre_seq_len else {}
    bits = {"quantization_bit": config.quantization_bit} if config.quantization_bit else {}
    eos = {"eos_token_id": text.eos_token_id, "position_encoding_2d": True}
    return {**head, **own, **eos, **prefix, **bits, "eva_config": tower, "qformer_config": queries}


def _sizes(shapes: Shapes) -> dict[str, Any]:
    """Published settings as far as shapes tell, the rest as in the published model."""
    root = "mixins.eva.model." if is_sat(shapes) else "image_encoder."
    vocab, hidden = shapes["transformer.word_embeddings.weight"]
    patch = shapes[f"{root}vit.mixins.patch_embedding.proj.weight"]
    places = shapes[f"{root}vit.transformer.position_embeddings.weight"][0]
    queries, width = shapes[f"{root}qformer.transformer.word_embeddings.weight"]
    layers = _count(shapes, rf"{re.escape(root)}qformer\.transformer\.layers\.(\d+)\.attention\.dense\.weight")
    side = round((places - 1) ** 0.5) * patch[-1]
    crossing = [f"{root}qformer.transformer.layers.{n}.cross_attention.dense.weight" in shapes for n in range(layers)]
    return {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "num_layers": _count(shapes, r"transformer\.layers\.(\d+)\.attention\.dense\.weight"),
        "num_attention_heads": max(hidden // _HEAD, 1),
        "inner_hidden_size": shapes["transformer.layers.0.mlp.dense_h_to_4h.weight"][0],
        "image_length": queries,
        "eva_config": {
            "num_layers": _count(
                shapes, rf"{re.escape(root)}vit\.transformer\.layers\.(\d+)\.attention\.dense\.weight"
            ),
            "hidden_size": patch[0],
            "num_attention_heads": max(patch[0] // _VISION_HEAD, 1),
            "inner_hidden_size": shapes[f"{root}vit.transformer.layers.0.mlp.dense_h_to_4h.weight"][0],
            "image_size": [side, side],
            "patch_size": patch[-1],
        },
        "qformer_config": {
            "num_layers": layers,
            "hidden_size": width,
            "num_attention_heads": max(width // _QFORMER_HEAD, 1),
            "vocab_size": queries,
            "is_decoder": crossing,
            "inner_hidden_size": shapes[f"{root}qformer.transformer.layers.0.mlp.dense_h_to_4h.weight"][0],
            "cross_attn_hidden_size": patch[0],
        },
    }


def _count(names: Iterable[str], pattern: str) -> int:
    return 1 + max(int(match[1]) for name in names if (match := re.fullmatch(pattern, name)))
