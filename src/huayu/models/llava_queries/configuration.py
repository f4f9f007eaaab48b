"""Configuration of a Llava whose pictures are read by learned queries."""

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import Blip2QFormerConfig, LlavaConfig, PreTrainedConfig


@strict
class LlavaQueriesConfig(LlavaConfig):
    """``num_queries``: embeddings per picture. ``qformer_config``: of the transformer that makes them."""

    model_type = "llava_queries"

    qformer_config: dict | PreTrainedConfig | None = None
    num_queries: int = 64

    def __post_init__(self, **kwargs: Any) -> None:
        if not isinstance(self.qformer_config, PreTrainedConfig):
            self.qformer_config = Blip2QFormerConfig(**(self.qformer_config or {}))
        super().__post_init__(**kwargs)
