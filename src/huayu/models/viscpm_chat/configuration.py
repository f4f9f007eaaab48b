"""Configuration of VisCPM-Chat."""

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from huayu.models.beit3.configuration import Beit3Config
from huayu.models.cpm_bee.configuration import CpmBeeConfig


@strict
class VisCPMChatConfig(PreTrainedConfig):
    """A BEiT-3 branch whose query states, projected, stand in a CPM-Bee prompt; defaults are the published 10B model.

    ``num_query_tokens``: embeddings per picture. ``quantization_bit``: 8 or 4 where layers are packed,
    ``quantization_scope`` says which. Source: spec viscpm §3.
    """

    model_type = "viscpm_chat"
    sub_configs = {"text_config": CpmBeeConfig, "vision_config": Beit3Config}

    text_config: dict | PreTrainedConfig | None = None
    vision_config: dict | PreTrainedConfig | None = None
    num_query_tokens: int = 64
    quantization_bit: int | None = None
    quantization_scope: str | list | None = None
    initializer_range: float = 0.02
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        text, vision = self.text_config or {}, self.vision_config or {}
        self.text_config = CpmBeeConfig(**text) if isinstance(text, dict) else text
        self.vision_config = Beit3Config(**vision) if isinstance(vision, dict) else vision
        super().__post_init__(**kwargs)
