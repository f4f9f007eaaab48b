"""The library's Llava with another connector: learned queries look at the patches and stand for the picture."""

# N pictures, P patches, V vision width, Q queries, D language width

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, Blip2QFormerModel, LlavaForConditionalGeneration, LlavaModel, LlavaPreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from huayu.models.llava_queries.configuration import LlavaQueriesConfig


class QueryConnector(nn.Module):
    """Patches (N, P, V) → (N, Q, D): queries that attend to each other and to the patches, then a linear.

    Source: BLIP-2 (arXiv 2301.12597) §3.1, of which this is the part that has no text.
    """

    def __init__(self, config: LlavaQueriesConfig) -> None:
        super().__init__()
        width = config.qformer_config.hidden_size
        self.norm = nn.LayerNorm(config.vision_config.hidden_size)
        self.query_tokens = nn.Parameter(
            torch.randn(config.num_queries, width) * config.qformer_config.initializer_range
        )
        self.qformer = Blip2QFormerModel(config.qformer_config)
        self.projector = nn.Linear(width, config.text_config.hidden_size)

    def forward(self, states: Tensor) -> Tensor:
        queries = self.query_tokens.expand(len(states), -1, -1)
        seen = self.qformer(query_embeds=queries, encoder_hidden_states=self.norm(states)).last_hidden_state
        embeds: Tensor = self.projector(seen)
        return embeds


class LlavaQueriesModel(LlavaModel):
    """Without the vocabulary's matrix."""

    config_class = LlavaQueriesConfig

    def __init__(self, config: LlavaQueriesConfig) -> None:
        LlavaPreTrainedModel.__init__(self, config)
        self.vision_tower = AutoModel.from_config(config.vision_config)
        self.multi_modal_projector = QueryConnector(config)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Pictures (N, 3, S, S) → N embeddings (Q, D) in ``pooler_output``. Llava's choice of layers does not apply."""
        states = self.vision_tower(pixel_values).last_hidden_state
        embeds = self.multi_modal_projector(states)
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=list(embeds))


class LlavaQueriesForConditionalGeneration(LlavaForConditionalGeneration):
    """Takes and gives what :class:`transformers.LlavaForConditionalGeneration` does."""

    config_class = LlavaQueriesConfig

    def __init__(self, config: LlavaQueriesConfig) -> None:
        LlavaPreTrainedModel.__init__(self, config)
        self.model = LlavaQueriesModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()
