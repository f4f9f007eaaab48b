"""LoRA pairs in a sat checkpoint: merged into the weights, left beside them, or written as a PEFT adapter.

A linear of R outputs and C inputs may be several in one (query, key, value: n parts of R/n rows); each part has its own
pair A (r, C), B (R/n, r) and gets B·A·(alpha/r) on top, alpha being 1. Source: spec visualglm §9.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from huayu.checkpoints.reader import Entry, LazyTensors
from huayu.errors import CheckpointError

ALPHA = 1.0
_ORIGINAL = re.compile(r"(?P<linear>.+)\.original\.(?P<tensor>weight|bias)")
_PAIR = re.compile(r"(?P<linear>.+)\.matrix_(?P<side>[AB])\.(?P<part>\d+)")


@dataclass(frozen=True)
class Lora:
    """The pairs of one linear, part after part; ``scale`` is alpha / r."""

    down: tuple[Tensor, ...]
    up: tuple[Tensor, ...]
    scale: float

    @property
    def rank(self) -> int:
        """r of each part."""
        return self.down[0].shape[0]

    def delta(self) -> Tensor:
        """What is added to the weight: (R, C), fp32."""
        parts = [up.float() @ down.float() for down, up in zip(self.down, self.up, strict=True)]
        return torch.cat(parts) * self.scale

    def __call__(self, x: Tensor) -> Tensor:
        """What is added to the output: (…, C) → (…, R)."""
        pairs = zip(self.down, self.up, strict=True)
        return torch.cat([x @ down.to(x).T @ up.to(x).T for down, up in pairs], dim=-1) * self.scale


def is_lora(names: Iterable[str]) -> bool:
    """Whether any of these names belongs to a pair."""
    return any(_PAIR.fullmatch(name) for name in names)


def split(tensors: LazyTensors, alpha: float = ALPHA) -> tuple[LazyTensors, dict[str, Lora]]:
    """The checkpoint as if there had been no pairs, and name of linear → its pairs.

    Raises CheckpointError for a pair that lacks a side, or that has no linear.
    """
    entries: dict[str, Entry] = {}
    found: dict[str, dict[tuple[str, int], str]] = {}
    for name, entry in tensors.entries.items():
        if match := _PAIR.fullmatch(name):
            found.setdefault(match["linear"], {})[match["side"], int(match["part"])] = name
        elif match := _ORIGINAL.fullmatch(name):
            entries[f"{match['linear']}.{match['tensor']}"] = entry
        else:
            entries[name] = entry
    loras = {linear: _lora(tensors, linear, pairs, alpha) for linear, pairs in found.items()}
    if lost := [linear for linear in loras if f"{linear}.weight" not in entries]:
        raise CheckpointError(f"{lost[0]} has LoRA pairs but no weight.", f"{lost[0]} 有 LoRA 矩阵却没有权重。")
    return LazyTensors(entries, tensors.files, tensors.mapped), loras


def merged(tensors: LazyTensors, alpha: float = ALPHA) -> LazyTensors:
    """The checkpoint with every pair added to its weight, in fp32, rounded to the weight's dtype once."""
    base, loras = split(tensors, alpha)
    for linear, lora in loras.items():
        key = f"{linear}.weight"
        entry = base.entries[key]
        base.entries[key] = replace(entry, read=partial(_read_merged, entry, lora), computed=True)
    return base


def attach(model: nn.Module, loras: Mapping[str, Lora]) -> list[Any]:
    """Let the named modules of ``model`` add their pairs' output to their own; ``.remove()`` each handle to undo.

    The weights stay as they are, quantised ones too.
    """

    def hook(lora: Lora) -> Any:
        return lambda module, inputs, output: output + lora(inputs[0])  # noqa: ARG005 (the library's signature)

    return [model.get_submodule(name).register_forward_hook(hook(lora)) for name, lora in loras.items()]


def write_peft(folder: Path, loras: Mapping[str, Lora], base: str = "") -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``, which the PEFT library loads, exactly the same.

    ``loras``: our module name → pairs. Parts become one pair of rank n·r whose B is block-diagonal. ``base`` names the
    model the adapter belongs to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ranks = {name: lora.rank * len(lora.down) for name, lora in loras.items()}
    alphas = {name: ranks[name] * lora.scale for name, lora in loras.items()}
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "r": next(iter(ranks.values())),
        "lora_alpha": next(iter(alphas.values())),
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "target_modules": sorted(loras),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    tensors = {}
    for name, lora in loras.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.cat(list(lora.down)).contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.block_diag(*lora.up).contiguous()
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})


def _lora(tensors: LazyTensors, linear: str, pairs: Mapping[tuple[str, int], str], alpha: float) -> Lora:
    count = 1 + max(part for _, part in pairs)
    wanted = [(side, part) for side in "AB" for part in range(count)]
    if absent := [key for key in wanted if key not in pairs]:
        name = f"{linear}.matrix_{absent[0][0]}.{absent[0][1]}"
        raise CheckpointError(f"{name} is missing.", f"缺少 {name}。")
    down, up = (tuple(tensors[pairs[side, part]].clone() for part in range(count)) for side in "AB")
    if any(a.ndim != 2 or a.shape[0] != b.shape[-1] for a, b in zip(down, up, strict=True)):
        raise CheckpointError(f"The LoRA matrices of {linear} do not fit.", f"{linear} 的 LoRA 矩阵形状不符。")
    return Lora(down, up, alpha / down[0].shape[0])


def _read_merged(entry: Entry, lora: Lora) -> Tensor:
    weight = entry.read()
    return (weight.float() + lora.delta()).to(weight.dtype)
