"""Adapters: small folders beside a model, as the PEFT library writes them, put into the model that is opened.

``adapter_config.json`` names the model (``base_model_name_or_path``); ``adapter_model.safetensors`` holds LoRA or DoRA
pairs, or a trained prefix of ChatGLM. Reading them needs no PEFT.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from huayu.checkpoints.lora import Lora, attach
from huayu.errors import CheckpointError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "HUAYU_PREFIX"  # peft_type of a trained prefix
_ROOT = "base_model.model."


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

        Raises CheckpointError when it is another model's.
        """
        tensors = load_file(self.folder / WEIGHTS)
        if self.settings["peft_type"] == PREFIX:
            _set_prefix(model, tensors)
            return
        names = {name.removeprefix(_ROOT).rsplit(".lora_", 1)[0] for name in tensors if ".lora_A" in name}
        for name in sorted(names):
            down, up = (tensors[f"{_ROOT}{name}.lora_{side}.weight"] for side in "AB")
            pair = Lora((down,), (up,), self._scale(name, down.shape[0]))
            _add(model, name, pair, tensors.get(f"{_ROOT}{name}.lora_magnitude_vector"))

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


def _set_prefix(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    add_prefix(model, next(iter(tensors.values())).shape[2])
    own = {name for name, _ in model.named_parameters() if _is_prefix(name)}
    if own != set(tensors):
        raise CheckpointError("The prefix belongs to another model.", "该前缀属于另一个模型。")
    model.load_state_dict(tensors, strict=False)


@torch.no_grad()
def _add(model: nn.Module, name: str, pair: Lora, magnitude: Tensor | None) -> None:
    try:
        linear: Any = model.get_submodule(name)
    except AttributeError as error:
        raise CheckpointError(f"The model has no {name}.", f"模型中没有 {name}。") from error
    if not isinstance(linear, nn.Linear):
        if magnitude is not None:
            raise CheckpointError("DoRA cannot lie beside quantised weights.", "DoRA 不能用于量化后的权重。")
        attach(model, {name: pair})
        return
    if linear.weight.shape != (pair.up[0].shape[0], pair.down[0].shape[1]):
        raise CheckpointError(f"The adapter does not fit {name}.", f"适配器与 {name} 的形状不符。")
    weight = linear.weight.float() + pair.delta().to(linear.weight.device)
    if magnitude is not None:
        weight *= (magnitude.to(weight) / weight.norm(dim=1))[:, None]
    linear.weight.copy_(weight)
