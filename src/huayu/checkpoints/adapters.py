"""Adapters: small folders beside a model, as the PEFT library writes them, put into the model that is opened.

``adapter_config.json`` names the model (``base_model_name_or_path``); ``adapter_model.safetensors`` holds LoRA or DoRA
pairs, or a trained prefix of ChatGLM. Reading them needs no PEFT.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from huayu.checkpoints.lora import Lora, attach
from huayu.errors import CheckpointError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "HUAYU_PREFIX"  # peft_type of a trained prefix
_PAIR = re.compile(r"base_model\.model\.(?P<name>.+)\.lora_(?P<part>A\.weight|B\.weight|magnitude_vector)")


@dataclass(frozen=True)
class Adapter:
    """``base``: name or folder of its model. ``settings``: the whole of ``adapter_config.json``."""

    folder: Path
    base: str
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What the model with it is called: the folder, or, in a run's ``model`` folder, the run."""
        folder = self.folder.resolve()
        return folder.parent.name if folder.name == "model" else folder.name

    def apply(self, model: nn.Module) -> None:
        """Put it into ``model``: added to the weights; beside them where they are quantised.

        Raises CheckpointError when it is damaged, another model's, or holds what is no pair; nothing has changed then.
        """
        try:
            tensors = load_file(self.folder / WEIGHTS)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{self.folder / WEIGHTS}: {error}.", f"{self.folder / WEIGHTS}：{error}。"
            ) from error
        if self.settings["peft_type"] == PREFIX:
            _set_prefix(model, tensors)
            return
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            match = _PAIR.fullmatch(key)
            if match is None:
                raise CheckpointError(f"The adapter holds {key}, which is no pair.", f"适配器中的 {key} 不是低秩矩阵。")
            parts.setdefault(match["name"], {})[match["part"]] = tensor
        if lost := [name for name, found in parts.items() if not {"A.weight", "B.weight"} <= set(found)]:
            raise CheckpointError(f"{lost[0]} lacks half of its pair.", f"{lost[0]} 缺少一半低秩矩阵。")
        fitted = []
        for name, found in parts.items():
            down, up, magnitude = found["A.weight"], found["B.weight"], found.get("magnitude_vector")
            pair = Lora((down,), (up,), self._scale(name, down.shape[0]))
            fitted.append((name, _fitting(model, name, pair, magnitude), pair, magnitude))
        for name, linear, pair, magnitude in fitted:
            _add(model, name, linear, pair, magnitude)

    def _scale(self, name: str, rank: int) -> float:
        alpha = self.settings.get("alpha_pattern", {}).get(name, self.settings["lora_alpha"])
        return float(alpha) / (rank**0.5 if self.settings.get("use_rslora") else rank)


def find_adapter(model: object) -> Adapter | None:
    """The adapter in the folder ``model``, or None when it is none. Raises CheckpointError for one that is damaged."""
    if not isinstance(model, str | Path) or not (Path(model) / CONFIG).is_file():
        return None
    folder = Path(model)
    try:
        settings = json.loads((folder / CONFIG).read_text("utf-8"))
        kind, base = settings["peft_type"], settings["base_model_name_or_path"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / CONFIG} is damaged: {error}.", f"{folder / CONFIG} 已损坏：{error}。"
        ) from error
    if kind not in ("LORA", PREFIX):
        raise CheckpointError(f"An adapter of kind {kind} is not known.", f"不认识 {kind} 类的适配器。")
    if not (folder / WEIGHTS).is_file() or not base:
        raise CheckpointError(
            f"{folder} lacks {WEIGHTS} or the name of its model.", f"{folder} 缺少 {WEIGHTS}，或未写明所属模型。"
        )
    return Adapter(folder, base, settings)


def write_prefix(folder: Path, model: nn.Module, base: str) -> None:
    """The trained prefix of ``model`` as an adapter of ``base``."""
    found = {name: value.detach().cpu().contiguous() for name, value in model.named_parameters() if _is_prefix(name)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(found, folder / WEIGHTS, {"format": "pt"})
    settings = {"peft_type": PREFIX, "base_model_name_or_path": base}
    (folder / CONFIG).write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def add_prefix(model: Any, tokens: int) -> None:
    """Give every layer of ChatGLM a prefix of ``tokens`` tokens to learn. Raises CheckpointError for another model."""
    layers = [
        module for name, module in model.named_modules() if name.endswith(".attention") and hasattr(module, "prefix")
    ]
    if not layers:
        raise CheckpointError("This model has no prefix to train.", "该模型没有可训练的前缀。")
    text = model.config.text_config
    text.pre_seq_len, text.prefix_projection = tokens, False
    for attention in layers:
        like = attention.o_proj.weight
        shape = (2, text.num_attention_heads, tokens, attention.head_dim)
        start = torch.randn(shape, device=like.device) * 0.01
        attention.prefix = nn.Parameter(start.to(like.dtype if like.is_floating_point() else torch.float32))


def _is_prefix(name: str) -> bool:
    return name.endswith(".attention.prefix")


@torch.no_grad()
def _set_prefix(model: Any, tensors: Mapping[str, Tensor]) -> None:
    text = getattr(model.config, "text_config", None)
    names = {f"{name}.prefix" for name, module in model.named_modules() if hasattr(module, "prefix")}
    tokens = next((tensor.shape[2] for tensor in tensors.values() if tensor.ndim == 4), 0)
    own = names and (2, text.num_attention_heads, tokens, text.head_dim)  # type: ignore[union-attr]
    if not tokens or names != set(tensors) or any(tuple(tensor.shape) != own for tensor in tensors.values()):
        raise CheckpointError("The prefix belongs to another model.", "该前缀属于另一个模型。")
    add_prefix(model, tokens)
    for name, tensor in tensors.items():
        model.get_parameter(name).copy_(tensor)


def _fitting(model: nn.Module, name: str, pair: Lora, magnitude: Tensor | None) -> nn.Module:
    """The linear that the pair belongs to."""
    try:
        linear: Any = model.get_submodule(name)
    except AttributeError as error:
        raise CheckpointError(f"The model has no {name}.", f"模型中没有 {name}。") from error
    if magnitude is not None and not isinstance(linear, nn.Linear):
        raise CheckpointError("DoRA cannot lie beside quantised weights.", "DoRA 不能用于量化后的权重。")
    if (linear.out_features, linear.in_features) != (pair.up[0].shape[0], pair.down[0].shape[1]):
        raise CheckpointError(f"The adapter does not fit {name}.", f"适配器与 {name} 的形状不符。")
    return linear


@torch.no_grad()
def _add(model: nn.Module, name: str, linear: Any, pair: Lora, magnitude: Tensor | None) -> None:
    if not isinstance(linear, nn.Linear):
        attach(model, {name: pair})
        return
    weight = linear.weight.float() + pair.delta().to(linear.weight.device)
    if magnitude is not None:
        weight *= (magnitude.to(weight) / weight.norm(dim=1))[:, None]
    linear.weight.copy_(weight)
