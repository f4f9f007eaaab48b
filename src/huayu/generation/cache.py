"""A key-value cache that writes into buffers which double, where the library's own concatenates at every step.

N rows, H heads, L tokens held, C capacity (tokens the buffer has room for), D head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

ROOM = 64
"""Tokens a new buffer has room for beyond what it is made for."""


class GrowingLayer(DynamicLayer):
    """Keys and values of one layer: views (N, H, L, D) into buffers (N, H, C, D), C at least doubling.

    The tensors that ``update`` returns are views: they stay valid, and keep their numbers, until rows are reordered.
    """

    _key_buffer: Tensor
    _value_buffer: Tensor

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make the first buffers, for tensors shaped as these."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self._length = 0
        self._key_buffer = _buffer(key_states, key_states.shape[-2] + ROOM)
        self._value_buffer = _buffer(value_states, value_states.shape[-2] + ROOM)
        self._show()
        self.is_initialized = True

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *args: Any,  # noqa: ARG002 (the library's signature)
        **kwargs: Any,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """Append ``key_states`` and ``value_states`` (N, H, T, D); returns all keys and values (N, H, L + T, D)."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        tokens = key_states.shape[-2]
        keys, values = self.make_room(tokens)
        keys[..., self._length : self._length + tokens, :] = key_states
        values[..., self._length : self._length + tokens, :] = value_states
        self.extend(tokens)
        return self.keys, self.values

    def make_room(self, tokens: int) -> tuple[Tensor, Tensor]:
        """The buffers (N, H, C, D), with room for ``tokens`` more."""
        end = self._length + tokens
        if end > self._key_buffer.shape[-2]:
            self._key_buffer = self._grown(self._key_buffer, end)
            self._value_buffer = self._grown(self._value_buffer, end)
        return self._key_buffer, self._value_buffer

    def extend(self, tokens: int) -> None:
        """So many more tokens of the buffers are held."""
        self._length += tokens
        self._show()

    def get_seq_length(self) -> int:
        """Tokens held."""
        return self._length if self.is_initialized else 0

    def reset(self) -> None:
        """Forget everything, buffers included."""
        if self.is_initialized:
            del self._key_buffer, self._value_buffer, self._length
        super().reset()

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last ``-tokens_to_remove`` tokens (a negative number, as the library passes it)."""
        if tokens_to_remove > 0:
            raise ValueError(f"crop takes a negative number of tokens to remove, not {tokens_to_remove}")
        if self.is_initialized:
            self._length = max(0, self._length + tokens_to_remove)
            self._show()

    def reorder_cache(self, beam_idx: Tensor, start: int = 0) -> None:
        """Row n becomes what row ``beam_idx[n]`` was, from token ``start`` on (rows are known to agree before it).

        Only rows that change are written, and only tokens that are held.
        """
        if not self.get_seq_length():
            return
        rows = beam_idx.to(self.device)
        if rows.shape[0] != self._key_buffer.shape[0]:
            self.batch_select_indices(rows)
            return
        changed = (rows != torch.arange(rows.shape[0], device=self.device)).nonzero().squeeze(1)
        for held in (self.keys, self.values):
            # The right side is gathered before it is written, so rows may swap.
            held[changed, :, start:] = held[rows[changed], :, start:]

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Every row ``repeats`` times, copies side by side."""
        if self.get_seq_length():
            rows = torch.arange(self._key_buffer.shape[0], device=self.device).repeat_interleave(repeats)
            self.batch_select_indices(rows)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep rows ``indices`` (integers, any number of times each), in that order."""
        if self.get_seq_length():
            self._key_buffer = _copied(self.keys[indices], self._key_buffer.shape[-2])
            self._value_buffer = _copied(self.values[indices], self._value_buffer.shape[-2])
            self._show()

    def offload(self) -> None:
        """Move to the CPU."""
        self._move(torch.device("cpu"))

    def prefetch(self) -> None:
        """Move back to the device of the first update."""
        if self.is_initialized:
            self._move(self.device)

    def _move(self, device: torch.device) -> None:
        if self.is_initialized and self._key_buffer.device != device:
            self._key_buffer = self._key_buffer.to(device, non_blocking=True)
            self._value_buffer = self._value_buffer.to(device, non_blocking=True)
            self._show()

    def _grown(self, buffer: Tensor, length: int) -> Tensor:
        return _copied(buffer[..., : self._length, :], max(2 * buffer.shape[-2], length + ROOM))

    def _show(self) -> None:
        """Point ``keys`` and ``values``, which the library reads, at what is held."""
        self.keys = self._key_buffer[..., : self._length, :]
        self.values = self._value_buffer[..., : self._length, :]


class GrowingCache(DynamicCache):
    """Drop-in for the library's DynamicCache with full attention in every layer: same numbers, no copy per token.

    Hand it to a model or to ``generate(past_key_values=…)``. ``shared_tokens`` may be set by a search whose rows of
    one sentence agree on their first tokens (they read the same prompt): reordering then leaves those alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer_class_to_replicate = GrowingLayer
        self.shared_tokens = 0

    def room(self, tokens: int, like: Tensor, layers: int) -> tuple[list[Tensor], list[Tensor], int]:
        """Buffers of keys and of values (N, H, C, D), one for each of ``layers``, with room for ``tokens`` more, and
        how many they hold. ``like`` (N, H, 0, D): what new ones are made for. :meth:`appended` must follow."""
        while len(self.layers) < layers:
            self.layers.append(GrowingLayer())
        for layer in self.layers:
            if not layer.is_initialized:
                layer.lazy_initialization(like, like)
        held = [layer.make_room(tokens + 1) for layer in self.layers]  # full ones would be compiled for apart
        return [keys for keys, _ in held], [values for _, values in held], self.get_seq_length()

    def appended(self, tokens: int) -> None:
        """So many tokens have been written into the buffers of :meth:`room`."""
        for layer in self.layers:
            layer.extend(tokens)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row n becomes what row ``beam_idx[n]`` was."""
        for layer in self.layers:
            layer.reorder_cache(beam_idx, self.shared_tokens)


def _buffer(like: Tensor, capacity: int) -> Tensor:
    return like.new_empty((*like.shape[:-2], capacity, like.shape[-1]))


def _copied(held: Tensor, capacity: int) -> Tensor:
    """A buffer with room for ``capacity`` tokens that begins with ``held``."""
    buffer = _buffer(held, capacity)
    buffer[..., : held.shape[-2], :] = held
    return buffer
