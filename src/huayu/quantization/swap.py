"""Replacing a model's layers by packed ones: of a model in memory, or while a checkpoint is read."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from huayu.checkpoints.keymap import KeyMap
from huayu.checkpoints.opening import Blueprint
from huayu.checkpoints.reader import Entry, LazyTensors
from huayu.checkpoints.recast import taken_apart
from huayu.errors import ModelError
from huayu.quantization.layers import QuantizedEmbedding, QuantizedLinear
from huayu.quantization.rows import packed_shape, quantize_rows
from huayu.quantization.scopes import Part, Scope, parse_bits, scope_of
from huayu.runtime.allocator import give_back_freed_memory

Packed = QuantizedLinear | QuantizedEmbedding
_PIECE = 2**22  # numbers read at a time


def quantize_model(model: nn.Module, bits: int | str, scope: str | Scope = "published") -> nn.Module:
    """Quantise a model in place, layer by layer, and return it; its configuration says so.

    ``scope``: a name that the model's family knows (``"published"``, ``"lean"``) or patterns. Raises ModelError, before
    anything has changed, for a model that is quantised already, has no scopes, or has none of the layers.
    """
    for name, (layer, wanted) in _chosen(model, parse_bits(bits), scope).items():
        packed = _empty(layer, wanted)
        weight: Any = layer.weight
        packed.fill(weight)
        model.set_submodule(name, packed)
    _note(model, parse_bits(bits), scope)
    return model


def make_room(model: nn.Module, bits: int | str, scope: str | Scope = "published") -> dict[str, Packed]:
    """As :func:`quantize_model`, but the packed layers stay empty, to be loaded. Returns them by name."""
    made = {name: _empty(*layer) for name, layer in _chosen(model, parse_bits(bits), scope).items()}
    for name, packed in made.items():
        model.set_submodule(name, packed)
    _note(model, parse_bits(bits), scope)
    return made


def as_configured(model: nn.Module) -> None:
    """For the end of a model's constructor: packed layers where its configuration says that it is quantised."""
    config: Any = model.config
    if bits := getattr(config, "quantization_bit", None):
        scope = getattr(config, "quantization_scope", None) or "published"
        make_room(model, bits, scope if isinstance(scope, str) else tuple(Part(*part) for part in scope))


def exact(model: nn.Module, wish: bool = True) -> nn.Module:
    """Have packed layers compute as if they were unpacked, to the bit on a CPU too, or (False) fast; returns the model.

    A GPU always does, and so does whatever needs a gradient.
    """
    for module in model.modules():
        if isinstance(module, QuantizedLinear):
            module.exact = wish
    return model


def is_quantized(model: nn.Module) -> bool:
    """Whether any layer is packed."""
    return any(isinstance(module, Packed) for module in model.modules())


def quantizing(plan: Blueprint, bits: int | str, scope: str | Scope = "published") -> Blueprint:
    """The same plan with packed layers, and tensors that are quantised as they are read, one at a time.

    For ``open_model(…, prepare=…)``. A checkpoint that is quantised already in this way is read as it is. Raises
    ModelError as :func:`quantize_model`.
    """
    if is_quantized(plan.model):
        held = getattr(plan.model.config, "quantization_bit", None)
        if held == parse_bits(bits):
            return plan
        raise ModelError(f"{plan.source.name} is quantised in {held} bits.", f"{plan.source.name} 已量化为 {held} 位。")
    made = make_room(plan.model, bits, scope)
    tensors = taken_apart(plan.tensors, plan.keymap) if plan.keymap else plan.tensors
    entries: dict[str, Entry] = {}
    rules: list[tuple[str, str]] = []
    for key, entry in tensors.entries.items():
        ours = plan.keymap.to_ours(key) if plan.keymap else key
        name = ours.removesuffix(".weight") if isinstance(ours, str) else ""
        if f"{name}.weight" != ours or name not in made or not entry.dtype.is_floating_point:
            entries[key] = entry
            continue
        layer, rows = made[name], _Rows(tensors, key, made[name].bits)
        entries[key] = Entry(tuple(layer.weight.shape), layer.weight.dtype, rows.packed, computed=True, own=True)
        scale = (plan.keymap and plan.keymap.to_published(f"{name}.weight_scale")) or f"{key}_scale"
        entries[scale] = Entry(tuple(layer.weight_scale.shape), layer.weight_scale.dtype, rows.scale, computed=True)
        rules.append((scale, f"{name}.weight_scale"))
    keymap = plan.keymap and plan.keymap + KeyMap.of(rules)
    return replace(plan, tensors=LazyTensors(entries, tensors.files, tensors.mapped), keymap=keymap)


def while_loading(bits: int | str, scope: str | Scope = "published") -> Any:
    """:func:`quantizing` with its arguments, as ``open_model`` takes it."""
    return partial(quantizing, bits=parse_bits(bits), scope=scope)


class _Rows:
    """Integers and scales of one tensor: made together when the integers are asked for, scales kept until asked for."""

    def __init__(self, tensors: LazyTensors, key: str, bits: int) -> None:
        self.tensors, self.key, self.bits = tensors, key, bits
        self.waiting: Tensor | None = None

    def packed(self) -> Tensor:
        packed, self.waiting = self._both()
        give_back_freed_memory()  # else pages free between tensors that stay add up to 0.1 GB
        return packed

    def scale(self) -> Tensor:
        waiting, self.waiting = self.waiting, None  # who reads it may give its pages back
        return self._both()[1] if waiting is None else waiting

    def _both(self) -> tuple[Tensor, Tensor]:
        source = self.tensors[self.key]
        packed = torch.empty(packed_shape(source.shape[0], source.shape[1], self.bits), dtype=torch.int8)
        scale, step = torch.empty(len(source), dtype=torch.float16), max(_PIECE // source.shape[1], 1)
        for start in range(0, len(source), step):  # a large tensor need not be in memory whole
            rows = source[start : start + step]
            packed[start : start + step], scale[start : start + step] = quantize_rows(rows, self.bits)
            self.tensors.release(rows)
        return packed, scale


def _chosen(model: nn.Module, bits: int, scope: str | Scope) -> dict[str, tuple[nn.Module, int]]:
    """Name → layer and its bits, for all that the scope means."""
    if is_quantized(model):
        raise ModelError("The model is quantised already.", "模型已经量化过。")
    parts = scope_of(model, scope)
    chosen: dict[str, tuple[nn.Module, int]] = {}
    for name, module in model.named_modules():
        part = next((part for part in parts if part.has(name)), None)
        if part is not None:
            chosen[name] = (module, part.bits or bits)
    for part in parts:
        if not any(part.has(name) for name in chosen):
            raise ModelError(f"The model has no {part.pattern} to quantise.", f"模型中没有可量化的 {part.pattern}。")
    return chosen


def _empty(layer: nn.Module, bits: int) -> Packed:
    if isinstance(layer, nn.Linear):
        return QuantizedLinear.shaped_as(layer, bits)
    if isinstance(layer, nn.Embedding):
        return QuantizedEmbedding.shaped_as(layer, bits)
    raise ModelError(f"{type(layer).__name__} cannot be quantised.", f"无法量化 {type(layer).__name__}。")


def _note(model: nn.Module, bits: int, scope: str | Scope) -> None:
    config: Any = getattr(model, "config", None)
    if config is not None:
        config.quantization_bit = bits
        config.quantization_scope = scope if isinstance(scope, str) else [[p.pattern, p.bits] for p in scope]
