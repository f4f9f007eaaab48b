"""Llava with learned queries between its eye and its language model."""

from huayu.models.llava_queries.configuration import LlavaQueriesConfig
from huayu.models.llava_queries.modeling import LlavaQueriesForConditionalGeneration, LlavaQueriesModel

__all__ = ["LlavaQueriesConfig", "LlavaQueriesForConditionalGeneration", "LlavaQueriesModel"]
