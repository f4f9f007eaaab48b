"""Models of VisualGLM's golden cases, from published names in either format."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from huayu.checkpoints.keymap import KeyMap
from huayu.checkpoints.reader import LazyTensors, open_tensors
from huayu.errors import CheckpointError
from huayu.evaluation.verify.cases import Case
from huayu.models.visualglm import checkpoint
from huayu.models.visualglm.configuration import VisualGLMConfig
from huayu.models.visualglm.modeling import VisualGLMForConditionalGeneration

SAT_HEAD = "mixins.chatglm-final.lm_head.weight"


def weights(case: Case) -> LazyTensors:
    """The published tensors."""
    return open_tensors(case.path(case.config.get("weights", "weights.safetensors")))


def config_of(case: Case, **changes: Any) -> VisualGLMConfig:
    """Sizes of the whole model; ``changes`` are of the published settings."""
    return VisualGLMConfig.from_published({**case.config, **changes})


def keymap_of(names: Any, config: Any) -> KeyMap:
    """Of the whole model: sat's when its output matrix is named as there."""
    layers = config.qformer_config.num_hidden_layers
    if SAT_HEAD in names:
        return checkpoint.sat_keymap(layers)
    text = config.text_config
    projected = text.prefix_projection
    return checkpoint.hf_keymap(text.num_attention_heads, text.num_hidden_layers, layers, prefix_projection=projected)


def visualglm(case: Case) -> Any:
    """The whole model of the case."""
    config = config_of(case)
    with torch.device("meta"):
        model = VisualGLMForConditionalGeneration(config)
    return case.filled(model, keymap_of(weights(case), config))


def image_token_index(ids: Tensor, length: int, start: int | None = None) -> Tensor:
    """Where the one picture of each row stands: (B, T) with 0 … length - 1 from ``start`` on, -1 elsewhere.

    ``start`` None: at the first run of ``length`` equal ids. Raises CheckpointError when there is none.
    """
    if start is None:
        runs = (ids.unfold(1, length, 1) == ids.unfold(1, length, 1)[..., :1]).all(dim=-1).all(dim=0)
        if not bool(runs.any()):
            raise CheckpointError(f"no {length} placeholders in the prompt", f"提示中没有 {length} 个占位符")
        start = int(runs.int().argmax())
    index = torch.full_like(ids, -1)
    index[:, start : start + length] = torch.arange(length)
    return index
