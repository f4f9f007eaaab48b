"""What golden cases of VisualGLM have in common: the models that their weights make, spliced inputs, masks."""

# B rows, T tokens, Q queries of a picture, D width

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from huayu.checkpoints.keymap import KeyMap
from huayu.checkpoints.reader import open_tensors
from huayu.evaluation.verify.cases import Case
from huayu.evaluation.verify.report import Report
from huayu.models.chatglm import checkpoint as chatglm
from huayu.models.chatglm.configuration import ChatGLMConfig
from huayu.models.chatglm.modeling import ChatGLMForCausalLM
from huayu.models.chatglm.positions import inverse_frequencies, position_ids_of, visible
from huayu.models.visualglm import checkpoint as visualglm
from huayu.models.visualglm.configuration import VisualGLMConfig
from huayu.models.visualglm.modeling import VisualGLMForConditionalGeneration


def language_model(case: Case, **changes: Any) -> Any:
    """The language model alone, from Hugging Face names."""
    config = ChatGLMConfig.from_published(case.config, **changes)
    sizes = (config.num_attention_heads, config.num_hidden_layers)
    keymap = chatglm.hf_projected_keymap if config.prefix_projection else chatglm.hf_keymap
    with torch.device("meta"):
        model = ChatGLMForCausalLM(config)
    return case.filled(model, keymap(*sizes))


def keymap_of(config: VisualGLMConfig, sat: bool) -> KeyMap:
    """Names of the whole model in one format."""
    text: Any = config.text_config
    layers = config.qformer_config.num_hidden_layers  # type: ignore[union-attr]
    if sat:
        return visualglm.sat_keymap(layers)
    return visualglm.hf_keymap(text.num_attention_heads, text.num_hidden_layers, layers)


def whole_model(case: Case, *, sat: bool = False, rope: str = "fp32_from_fp16") -> Any:
    """VisualGLM, from the names of one format."""
    config = VisualGLMConfig.from_published(case.config)
    config.text_config.rope = rope  # type: ignore[union-attr]
    with torch.device("meta"):
        model = VisualGLMForConditionalGeneration(config)
    return case.filled(model, keymap_of(config, sat))


def picture_index(report: Report, name: str, input_ids: Tensor, start: Tensor, length: int, token: int) -> Tensor:
    """(B, T), -1 for text, the query's number where the picture stands: from ``start`` on, as published.

    What stands there is never read; that it is ``token``, as published, is a line of its own.
    """
    index = torch.full_like(input_ids, -1)
    first = int(start)
    index[:, first : first + length] = torch.arange(length)
    report.exact(f"{name} (placeholders)", input_ids[index >= 0], [token] * (length * len(input_ids)))
    return index


def blocked(input_ids: Tensor, config: ChatGLMConfig, padding: Tensor | None = None) -> Tensor:
    """(B, 1, T, T) True where published code hides a key; rows of padding see nothing there."""
    bos: Any = config.bos_token_id
    context = (input_ids == bos).long().cumsum(1) == 0
    seen = visible(context, padding)
    if seen is None:
        return torch.zeros(*input_ids.shape, 1, dtype=torch.bool)[:, None]
    return ~seen if padding is None else ~seen | ~padding.bool()[:, None, :, None]


def check_layout(
    case: Case, report: Report, prefix: str, config: ChatGLMConfig, ids: Tensor, padding: Tensor | None
) -> None:
    """Positions and mask of one sub-case, ours beside those recorded."""
    report.exact(f"{prefix}position_ids", position_ids_of(ids, config, padding), case.take(f"{prefix}position_ids"))
    report.exact(f"{prefix}mask_bool", blocked(ids, config, padding), case.take(f"{prefix}mask_bool"))


def check_constants(case: Case, report: Report, config: ChatGLMConfig) -> None:
    """The residual's factor, and frequencies that lie in the weights though nothing reads them."""
    report.close("residual_alpha", (2 * config.num_hidden_layers) ** 0.5, case.config["residual_alpha"], 1e-12)
    weights = open_tensors(case.path("weights.safetensors"))
    for name in weights:
        if name.endswith("rotary_emb.inv_freq"):
            ours = inverse_frequencies(config.head_dim // 2, torch.float16)
            report.close(name, ours, weights[name], case.tolerance)


def check_cache(case: Case, report: Report, prefix: str, cache: Any) -> None:
    """Keys and values of every layer whose record there is."""
    for number, layer in enumerate(cache.layers):
        for kind, held in (("k", layer.keys), ("v", layer.values)):
            name = f"{prefix}{kind}_{number}"
            if case.has(name):
                report.close(name, held, case.take(name), case.tolerance)


class Kept:
    """Inputs and outputs of modules, by name, of their last call."""

    def __init__(self) -> None:
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}

    def watch(self, name: str, module: nn.Module) -> None:
        """Keep what ``module`` is called with and returns."""

        def hook(_module: nn.Module, inputs: Any, output: Any) -> None:
            self.inputs[name] = inputs[0]
            self.outputs[name] = output[0] if isinstance(output, tuple) else output

        module.register_forward_hook(hook)
