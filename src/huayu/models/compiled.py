"""The blocks of a language model as one compiled function: less time between the matrices, in steps most of all."""

# B batch, T new tokens, L tokens held before, D width, H heads, W width of a head, C capacity of a buffer

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn


class Slots:
    """Takes the place of a cache in blocks: keys and values go into buffers (B, H, C, W) from token ``start`` on."""

    def __init__(self, keys: Sequence[Tensor], values: Sequence[Tensor], start: int) -> None:
        self.keys, self.values, self.start = keys, values, start

    def update(self, key_states: Tensor, value_states: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """(B, H, T, W) each → all keys and values (B, H, L + T, W)."""
        end = self.start + key_states.shape[-2]
        keys, values = self.keys[layer], self.values[layer]
        keys[..., self.start : end, :] = key_states
        values[..., self.start : end, :] = value_states
        return keys[..., :end, :], values[..., :end, :]


class CompilableBlocks:
    """A language model of ``layers`` and a ``norm``, which run compiled once :meth:`compile_blocks` was called: with a
    growing cache and without gradients; else as ever."""

    config: Any
    layers: nn.ModuleList
    norm: nn.Module
    compiled = False

    def compile_blocks(self) -> None:
        """Compile at the first prompt and the first step: each half a minute, a few seconds when it was done before.

        Raises RuntimeError when there is no C++ compiler.
        """
        from torch._inductor.cpp_builder import get_cpp_compiler

        get_cpp_compiler()
        self.compiled = True

    def run_compiled(self, x: Tensor, context: tuple[Any, ...], past: Any) -> Tensor | None:
        """x (B, T, D) → the last norm's output (B, T, D), or None where the blocks are to run as ever."""
        if not self.compiled or torch.is_grad_enabled() or not hasattr(past, "room"):
            return None
        heads = (len(x), self.config.num_attention_heads, 0, self.config.head_dim)
        caching = sum(getattr(layer, "has_attention", True) for layer in self.layers)
        keys, values, start = past.room(x.shape[1], x.new_empty(heads), caching)
        out: Tensor = _compiled(x.device.type)(self, x, context, keys, values, start)
        past.appended(x.shape[1])
        return out


def run_blocks(
    model: CompilableBlocks, x: Tensor, context: tuple[Any, ...], keys: list[Tensor], values: list[Tensor], start: int
) -> Tensor:
    """Every block, then the last norm."""
    slots = Slots(keys, values, start)
    for layer in model.layers:
        x = layer(x, *context, slots)
    out: Tensor = model.norm(x)
    return out


@cache
def _compiled(device: str) -> Any:
    # On a CPU the calls between kernels are compiled, too: in Python they cost 2 % of a step.
    return torch.compile(run_blocks, dynamic=True, options={"cpp_wrapper": True} if device == "cpu" else None)
