"""An image-text-to-text model of a vision encoder and a causal language model; its connector knows nothing yet.

With the MLP it is the transformers library's own Llava, which opens anywhere; with queries a Llava of our own class.
"""

# P patches, S side in pixels, V vision width

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from torch import nn

from huayu.checkpoints.find import locate
from huayu.errors import HuayuError, ModelError
from huayu.models.llava_queries import LlavaQueriesConfig, LlavaQueriesForConditionalGeneration

Connector = Literal["queries", "mlp"]
IMAGE = "<image>"
_HEAD = 64  # width of an attention head, as in BERT and ViT
_POOLED = ("pool", "head")  # in the names of weights behind the patches, which nothing here reads
# Llava's connector reads the last layer but one. Source: LLaVA (arXiv 2304.08485) §4.1, §5.1
_LAYER = -2
# Messages with pictures, as text for a template that knows text alone.
_FLATTEN = (
    "{%- set enable_thinking = false -%}{%- set flat = namespace(messages=[]) -%}{%- for message in messages -%}"
    "{%- if message.content is string -%}{%- set text = message.content -%}{%- else -%}{%- set parts = "
    "namespace(text='') -%}{%- for part in message.content -%}{%- set parts.text = parts.text ~ "
    "('<image>\\n' if part.type == 'image' else part.text) -%}{%- endfor -%}{%- set text = parts.text -%}{%- endif -%}"
    "{%- set flat.messages = flat.messages + [dict(message, content=text)] -%}{%- endfor -%}"
    "{%- set messages = flat.messages -%}"
)
PLAIN = (
    "{%- for message in messages -%}{{ {'user': 'User', 'system': 'System'}.get(message.role, 'Assistant') }}:\n"
    "{{ message.content }}{{ '\n' }}{%- endfor -%}{%- if add_generation_prompt -%}{{ 'Assistant:\n' }}{%- endif -%}"
)


@dataclass(frozen=True)
class Eye:
    """A vision encoder: its model, what prepares pictures, and how many of a picture's ``tokens`` are patches."""

    tower: Any
    images: Any
    tokens: int
    patches: int


def join(
    vision: str,
    language: str,
    *,
    connector: Connector = "queries",
    queries: int = 64,
    layers: int = 2,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> tuple[Any, Any]:
    """(model, processor) in ``dtype``, the connector in fp32 from ``seed``.

    ``vision``: a folder or hub id that AutoModel opens (of a dual encoder its vision part); ``language``: one that
    AutoModelForCausalLM opens. ``queries`` embeddings a picture, ``layers`` of the transformer that makes them; "mlp"
    gives as many embeddings as patches. Raises ModelError for a pair that cannot be joined, CheckpointError.
    """
    eye = _open_eye(vision, dtype)
    causal, tokenizer = _open_language(language, dtype)
    image = _add_image_token(causal, tokenizer, language)
    tied = causal.config.tie_word_embeddings and hasattr(causal.base_model, "embed_tokens")
    causal.config.tie_word_embeddings = bool(tied)  # Llava ties by that name; others keep a copy
    extra = eye.tokens - eye.patches
    shared = {
        "vision_config": eye.tower.config,
        "text_config": causal.config,
        "image_token_index": image,
        "vision_feature_layer": _LAYER,
        "vision_feature_select_strategy": "default" if extra == 1 else "full",
        "image_seq_length": queries if connector == "queries" else eye.tokens - (extra == 1),
        "tie_word_embeddings": bool(tied),
    }
    torch.manual_seed(seed)
    if connector == "queries":
        width = eye.tower.config.hidden_size
        model = _assemble(
            LlavaQueriesForConditionalGeneration,
            LlavaQueriesConfig(**shared, num_queries=queries, qformer_config=qformer_sizes(width, layers)),
            eye.tower,
            causal,
        )
    else:
        from transformers import LlavaConfig, LlavaForConditionalGeneration

        model = _assemble(LlavaForConditionalGeneration, LlavaConfig(**shared), eye.tower, causal)
    _require_same_words(model, causal, language)
    return model, _processor(eye, tokenizer, queries if connector == "queries" else None, extra)


def _open_eye(name: str, dtype: torch.dtype) -> Eye:
    from transformers import AutoConfig, AutoImageProcessor, AutoModel

    folder = locate(name).path
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **local)
        tower, report = AutoModel.from_pretrained(
            folder, config=getattr(config, "vision_config", config), dtype=dtype, output_loading_info=True, **local
        )
        images = AutoImageProcessor.from_pretrained(folder, backend="pil", **local)
        if lost := sorted(key for key in map(str, report["missing_keys"]) if not any(part in key for part in _POOLED)):
            raise ValueError(f"{len(lost)} weights are missing ({lost[0]})")
        pixels = images(images=Image.new("RGB", (64, 48)), return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            states = tower.eval()(pixels.to(dtype), output_hidden_states=True).hidden_states[_LAYER]
        side = tower.config.patch_size
        side = side if isinstance(side, int) else side[0]
        patches = (pixels.shape[-2] // side) * (pixels.shape[-1] // side)
        if states.ndim != 3 or not 0 <= states.shape[1] - patches < patches:
            raise ValueError(f"its states are {tuple(states.shape)} for {patches} patches")
    except HuayuError:
        raise
    except Exception as problem:  # whatever a foreign class raises, it is this pair that does not work
        first = str(problem).strip().split("\n")[0]
        raise ModelError(
            f"{name} cannot be used as a vision encoder for pictures of one size: {first}",
            f"{name} 不能用作固定尺寸图片的视觉编码器：{first}",
        ) from problem
    return Eye(tower, images, states.shape[1], patches)


def _open_language(name: str, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = locate(name).path
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True, **local)
        if lost := sorted(map(str, report["missing_keys"])):
            raise ValueError(f"{len(lost)} weights are missing ({lost[0]})")
    except (ValueError, KeyError, ImportError, OSError, RuntimeError) as problem:
        first = str(problem).strip().split("\n")[0]
        raise ModelError(
            f"{name} cannot be opened as a causal language model: {first}", f"无法以因果语言模型打开 {name}：{first}"
        ) from problem
    return model.eval(), tokenizer


def _add_image_token(causal: Any, tokenizer: Any, name: str) -> int:
    """The id of the place of a picture. A new row of the vocabulary is the mean of the others: never the likeliest."""
    head = causal.get_output_embeddings()
    if not isinstance(head, nn.Linear) or head.bias is not None:
        raise _not_plain(name)
    tokenizer.add_tokens([IMAGE], special_tokens=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    rows = head.out_features
    if len(tokenizer) > rows:
        causal.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        with torch.no_grad():
            for table in (causal.get_input_embeddings(), causal.get_output_embeddings()):
                table.weight[rows:] = table.weight[:rows].mean(dim=0)
    return int(tokenizer.convert_tokens_to_ids(IMAGE))


def qformer_sizes(width: int, layers: int) -> dict[str, Any]:
    """Settings of a Blip2QFormerConfig as wide as the vision encoder, each layer looking at the picture."""
    heads = next(count for count in range(max(1, width // _HEAD), 0, -1) if width % count == 0)
    sizes = {"hidden_size": width, "encoder_hidden_size": width, "intermediate_size": 4 * width}
    drop = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    crossing = {"num_hidden_layers": layers, "num_attention_heads": heads, "cross_attention_frequency": 1}
    return {**sizes, **crossing, **drop}


def _assemble(kind: Any, config: Any, tower: Any, causal: Any) -> Any:
    """The pieces in their places; only the connector is made anew."""
    with torch.device("meta"):
        model = kind(config)
    connector = type(model.model.multi_modal_projector)(config)
    connector.apply(model._init_weights)
    model.model.vision_tower, model.model.language_model = tower, causal.base_model
    model.model.multi_modal_projector = connector
    head = causal.get_output_embeddings().weight
    model.lm_head.weight = head if config.tie_word_embeddings else nn.Parameter(head.detach().clone())
    model.generation_config = causal.generation_config
    return model.eval()


@torch.no_grad()
def _require_same_words(model: Any, causal: Any, name: str) -> None:
    """A head that does more than one product has no place in a Llava."""
    ids = torch.arange(1, 9)[None] % causal.config.vocab_size
    ours, own = model(input_ids=ids).logits, causal(input_ids=ids).logits
    if not torch.allclose(ours.float(), own.float(), rtol=1e-2, atol=1e-2 * float(own.float().std())):
        raise _not_plain(name)


def _not_plain(name: str) -> ModelError:
    return ModelError(
        f"{name} makes its words in a way that Llava has no place for (a bias, cap or scale behind its last matrix).",
        f"{name} 的输出层带有偏置、截断或缩放，无法放入 Llava。",
    )


def _processor(eye: Eye, tokenizer: Any, queries: int | None, extra: int) -> Any:
    """Of the library's class. It counts whole patches and adds ``extra``: of patches larger than any picture, none."""
    from transformers import LlavaProcessor

    side = eye.tower.config.patch_size
    counting: dict[str, Any] = {
        "patch_size": side if isinstance(side, int) else side[0],
        "num_additional_image_tokens": extra,
        "vision_feature_select_strategy": "default" if extra == 1 else "full",
    }
    if queries is not None:
        counting = {
            "patch_size": 1 << 20,
            "num_additional_image_tokens": queries,
            "vision_feature_select_strategy": "full",
        }
    template = _FLATTEN + (tokenizer.chat_template or PLAIN)
    return LlavaProcessor(eye.images, tokenizer, chat_template=template, image_token=IMAGE, **counting)


def connector_of(model: Any) -> nn.Module:
    """The part that is always learnt."""
    connector: nn.Module = model.model.multi_modal_projector
    return connector


def parameters_of(module: nn.Module) -> int:
    """How many there are."""
    return sum(math.prod(parameter.shape) for parameter in module.parameters())
