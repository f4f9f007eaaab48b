"""Greedy steps of a packed model: with a cache that grows, and with shapes that never change, for CUDA graphs.

B rows, P prompt tokens, C room of the fixed cache, H heads, D head width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from huayu.generation.cache import GrowingCache
from huayu.generation.published import ModelStepper

_PER_TOKEN = ("attention_mask", "is_context", "segment_ids", "num_segments", "position_ids")
BOS = 6


class GrowingSteps:
    """The package's own way. ``inputs``: prompts without the answer's first token; ``answer``: the answer's segment."""

    def __init__(self, model: Any, inputs: Mapping[str, Tensor], answer: int, max_steps: int) -> None:
        self.stepper = ModelStepper(model, inputs, num_beams=1, max_steps=max_steps)
        rows, device = inputs["segment_ids"].shape[0], inputs["segment_ids"].device
        self.tokens = torch.full((rows,), BOS, device=device)
        self.segment = torch.full((rows,), answer, device=device)
        self.position = torch.zeros_like(self.segment)

    @torch.inference_mode()
    def __call__(self) -> Tensor:
        """Feed the last tokens; the likeliest next ones (B,)."""
        self.tokens = self.stepper.step(self.tokens, self.segment, self.position).argmax(-1)
        self.position = self.position + 1
        return self.tokens


class FixedCache:
    """Keys and values of all C places, whatever is in them: the metadata says which are there.

    The last place is that of the token being fed, which is also kept in the place it will have later.
    """

    def __init__(self, held: GrowingCache, room: int) -> None:
        self.length = held.get_seq_length()
        self.place = torch.tensor([self.length], device=held.layers[0].keys.device)
        self.buffers = [tuple(_wider(states, room) for states in (layer.keys, layer.values)) for layer in held.layers]
        self.room = room

    def get_seq_length(self) -> int:
        """Places before the token that is fed."""
        return self.room - 1

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, ...]:
        """One token (B, H, 1, D) more; all places (B, H, C, D)."""
        for buffer, new in zip(self.buffers[layer], (keys, values), strict=True):
            buffer.index_copy_(2, self.place, new)
            buffer[:, :, -1:] = new
        return self.buffers[layer]


class FixedSteps:
    """As :class:`GrowingSteps`; every tensor stays where it is, so that a CUDA graph can repeat a step."""

    def __init__(self, model: Any, inputs: Mapping[str, Tensor], answer: int, max_steps: int) -> None:
        self.model = model
        room = -(-(inputs["segment_ids"].shape[1] + max_steps + 1) // 16) * 16
        self.columns = {name: _wider(inputs[name], room, -1) for name in _PER_TOKEN}
        fed = {"attention_mask": 1, "is_context": 0, "segment_ids": answer, "position_ids": 0}
        for name, value in fed.items():
            self.columns[name][:, -1] = value
        self.columns["num_segments"][:, -1] = inputs["num_segments"][:, -1]
        self.relations = inputs["segment_rel"]
        self.tokens = torch.full((len(self.relations), 1), BOS, device=self.relations.device)
        with torch.inference_mode():
            grown = GrowingCache()
            model(**inputs, past_key_values=grown, use_cache=True, logits_to_keep=1)
        self.cache = FixedCache(grown, room)

    @torch.no_grad()
    def __call__(self) -> Tensor:
        """Feed the last tokens; the likeliest next ones (B,), in a tensor that the next step overwrites."""
        logits = self.model(
            input_ids=self.tokens,
            **self.columns,
            segment_rel=self.relations,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        for column in self.columns.values():
            column.index_copy_(1, self.cache.place, column[:, -1:].clone())
        self.columns["position_ids"][:, -1:] += 1
        self.cache.place += 1
        self.tokens.copy_(logits[:, -1].argmax(-1, keepdim=True))
        return self.tokens[:, 0]


def captured(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """``step`` as one CUDA graph. Three steps are done while it is made; capturing itself does none."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        tokens = step()

    def replay() -> Tensor:
        graph.replay()
        return tokens

    return replay


def _wider(tensor: Tensor, room: int, dim: int = -2) -> Tensor:
    """A copy with ``room`` places along ``dim``, zero where there was none."""
    shape = list(tensor.shape)
    shape[dim] = room
    wider = torch.zeros(shape, dtype=tensor.dtype, device=tensor.device)
    wider.narrow(dim, 0, tensor.shape[dim]).copy_(tensor)
    return wider
