"""Configuration of VisualGLM."""

from __future__ import annotations

from typing import Any, cast

from huggingface_hub.dataclasses import strict
from transformers import Blip2QFormerConfig, Blip2VisionConfig, PreTrainedConfig

from huayu.models.chatglm.configuration import ChatGLMConfig
from huayu.models.stem import check_stem

# Epsilon of the norm behind the vision tower, which is not that of the norms inside it. Source: spec visualglm §4.
VISION_NORM_EPSILON = 1e-5


@strict
class VisualGLMConfig(PreTrainedConfig):
    """A ViT and a Q-Former whose outputs, projected, stand in a ChatGLM prompt; defaults are the published 6B model.

    ``image_length``: embeddings per picture. ``quantization_bit``: 8 or 4 where layers are packed,
    ``quantization_scope`` says which. ``stem_channels``, ``stem_depth``: a convolutional stem before the patches, as of
    :class:`huayu.models.beit3.Beit3Config`; None is the published patch embedding. Source: spec visualglm §1.
    """

    model_type = "visualglm"
    sub_configs = {
        "text_config": ChatGLMConfig,
        "vision_config": Blip2VisionConfig,
        "qformer_config": Blip2QFormerConfig,
    }

    text_config: dict | PreTrainedConfig | None = None
    vision_config: dict | PreTrainedConfig | None = None
    qformer_config: dict | PreTrainedConfig | None = None
    image_length: int = 32
    stem_channels: list[int] | None = None
    stem_depth: int = 0
    quantization_bit: int | None = None
    quantization_scope: str | list | None = None
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        for name, kind in self.sub_configs.items():
            value = getattr(self, name) or {}
            setattr(self, name, kind(**value) if isinstance(value, dict) else value)
        super().__post_init__(**kwargs)

    def validate_stem(self) -> None:
        """The stem's strides make up one patch; called for every new configuration."""
        check_stem(self.stem_channels, cast(Any, self.vision_config).patch_size)

    @classmethod
    def from_published(cls, settings: dict[str, Any], **changes: Any) -> VisualGLMConfig:
        """From the published json: ``eva_config`` and ``qformer_config`` (Hugging Face), ``eva_args``, … (sat).

        Raises KeyError for a missing size, ValueError for a Q-Former whose cross-attention does not come at even steps.
        """
        vision = settings.get("eva_config") or settings["eva_args"]
        qformer = settings.get("qformer_config") or settings["qformer_args"]
        values: dict[str, Any] = {
            "text_config": ChatGLMConfig.from_published(settings),
            "vision_config": vision_config(vision),
            "qformer_config": qformer_config(qformer),
            "image_length": settings.get("image_length", qformer["vocab_size"]),
            "quantization_bit": settings.get("quantization_bit") or None,
        }
        return cls(**{**values, **changes})


def vision_config(settings: dict[str, Any]) -> Blip2VisionConfig:
    """From the published settings of the ViT. Raises KeyError."""
    return Blip2VisionConfig(
        hidden_size=settings["hidden_size"],
        intermediate_size=settings.get("inner_hidden_size", 4 * settings["hidden_size"]),
        num_hidden_layers=settings["num_layers"],
        num_attention_heads=settings["num_attention_heads"],
        image_size=settings["image_size"][0],
        patch_size=settings["patch_size"],
        layer_norm_eps=settings.get("layernorm_epsilon", 1e-6),
    )


def qformer_config(settings: dict[str, Any]) -> Blip2QFormerConfig:
    """From the published settings of the Q-Former. Raises KeyError, ValueError."""
    crossing = [bool(flag) for flag in settings["is_decoder"]]
    step = crossing.index(True, 1) if True in crossing[1:] else max(len(crossing), 1)
    if crossing != [n % step == 0 for n in range(settings["num_layers"])]:
        raise ValueError(f"is_decoder {crossing} has no even steps")
    return Blip2QFormerConfig(
        hidden_size=settings["hidden_size"],
        num_hidden_layers=settings["num_layers"],
        num_attention_heads=settings["num_attention_heads"],
        intermediate_size=settings.get("inner_hidden_size", 4 * settings["hidden_size"]),
        encoder_hidden_size=settings["cross_attn_hidden_size"],
        cross_attention_frequency=step,
        layer_norm_eps=settings.get("layernorm_epsilon", 1e-12),
        hidden_dropout_prob=settings.get("hidden_dropout_prob", 0.1),
        attention_probs_dropout_prob=settings.get("attention_dropout_prob", 0.1),
    )
