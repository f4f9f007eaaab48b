"""Published tensors that are laid out in another way than ours: taken apart on the way in, put together on the way out.

A part is named like the published tensor with ``#`` and a word behind it: ``….query_key_value.weight#key``. The rules
of a key map name parts, so the account of keys stays one line for each tensor of ours. Every way is exact in both
directions: rows are moved, never computed with.

R rows, H heads, W width of a head, P prefix tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from huayu.checkpoints.keymap import KeyMap
from huayu.checkpoints.reader import Entry, LazyTensors
from huayu.errors import CheckpointError

_MARK = "#"


class Recast(Protocol):
    """One published tensor ⇄ several of ours, named by ``parts``."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Words that name them, in order."""

    def apart(self, tensor: Tensor) -> Sequence[Tensor]:
        """Published → parts. Raises RuntimeError when the shape does not allow it."""

    def together(self, parts: Sequence[Tensor]) -> Tensor:
        """Parts → published."""


@dataclass(frozen=True)
class Stacked:
    """Equal groups of rows: (n·R, …) ⇄ n × (R, …)."""

    parts: tuple[str, ...]

    def apart(self, tensor: Tensor) -> Sequence[Tensor]:
        return tensor.unflatten(0, (len(self.parts), -1)).unbind(0)

    def together(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts))


@dataclass(frozen=True)
class ByHead:
    """Rows [H][q, k, v][W], as the Hugging Face ChatGLM has them ⇄ [q, k, v][H][W]. Source: spec visualglm §2."""

    heads: int
    parts: tuple[str, ...] = ("grouped",)

    def apart(self, tensor: Tensor) -> Sequence[Tensor]:
        return (tensor.unflatten(0, (self.heads, 3, -1)).transpose(0, 1).flatten(0, 2),)

    def together(self, parts: Sequence[Tensor]) -> Tensor:
        return parts[0].unflatten(0, (3, self.heads, -1)).transpose(0, 1).flatten(0, 2)


@dataclass(frozen=True)
class Batched:
    """(…) ⇄ (1, …)."""

    parts: tuple[str, ...] = ("batched",)

    def apart(self, tensor: Tensor) -> Sequence[Tensor]:
        return (tensor[None],)

    def together(self, parts: Sequence[Tensor]) -> Tensor:
        return parts[0][0]


@dataclass(frozen=True)
class PrefixTable:
    """(P, layers·2·H·W) ⇄ for each layer its keys and values (2, H, P, W). Source: spec visualglm §2, P-tuning v2."""

    layers: int
    heads: int

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(map(str, range(self.layers)))

    def apart(self, tensor: Tensor) -> Sequence[Tensor]:
        return tensor.unflatten(1, (self.layers, 2, self.heads, -1)).permute(1, 2, 3, 0, 4).contiguous().unbind(0)

    def together(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(parts)).permute(3, 0, 1, 2, 4).flatten(1)


def taken_apart(tensors: LazyTensors, keymap: KeyMap) -> LazyTensors:
    """The same tensors with every one that ``keymap`` recasts replaced by its parts; nothing is read yet.

    Raises CheckpointError for a tensor whose shape does not allow it.
    """
    entries: dict[str, Entry] = {}
    for name, entry in tensors.entries.items():
        recast = keymap.recast_of(name)
        if recast is None:
            entries[name] = entry
            continue
        try:
            shapes = [tuple(part.shape) for part in recast.apart(torch.empty(entry.shape, device="meta"))]
        except (RuntimeError, IndexError) as error:
            raise CheckpointError(
                f"{name} has a shape that does not fit: {list(entry.shape)}.",
                f"{name} 的形状不符：{list(entry.shape)}。",
            ) from error
        for number, (part, shape) in enumerate(zip(recast.parts, shapes, strict=True)):
            entries[f"{name}{_MARK}{part}"] = replace(
                entry, shape=shape, read=partial(_read_part, tensors, name, recast, number), computed=True
            )
    return LazyTensors(entries, tensors.files, tensors.mapped)


def _read_part(tensors: LazyTensors, name: str, recast: Recast, number: int) -> Tensor:
    whole = tensors[name]
    part = recast.apart(whole)[number]
    if part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr():
        return part
    tensors.release(whole)  # the part is a copy
    return part


def put_together(tensors: LazyTensors, keymap: KeyMap) -> LazyTensors:
    """Tensors by our names → by published names, parts joined; the reverse of loading.

    Raises CheckpointError for a name that has no published one, and for a part without the others.
    """
    entries: dict[str, Entry] = {}
    groups: dict[str, dict[str, str]] = {}
    for ours in tensors:
        published = keymap.to_published(ours)
        if published is None:
            raise CheckpointError(
                f"{ours} has no published name: the published format cannot hold this model.",
                f"{ours} 没有对应的发布名称：发布格式无法容纳该模型。",
            )
        whole, _, part = published.partition(_MARK)
        if part:
            groups.setdefault(whole, {})[part] = ours
        else:
            entries[published] = tensors.entries[ours]
    for whole, parts in groups.items():
        entries[whole] = _joined(tensors, keymap.recast_of(whole), whole, parts)
    return LazyTensors(entries, tensors.files, tensors.mapped)


def _joined(tensors: LazyTensors, recast: Recast | None, whole: str, parts: dict[str, str]) -> Entry:
    if recast is None or (absent := [part for part in recast.parts if part not in parts]):
        lacking = ", ".join(absent) if recast else "#"
        raise CheckpointError(f"{whole} cannot be put together: {lacking}.", f"无法拼合 {whole}：缺少 {lacking}。")
    entries = [tensors.entries[parts[part]] for part in recast.parts]
    shape = tuple(recast.together([torch.empty(entry.shape, device="meta") for entry in entries]).shape)
    return Entry(shape, entries[0].dtype, partial(_read_joined, recast, entries), computed=True)


def _read_joined(recast: Recast, entries: list[Entry]) -> Tensor:
    return recast.together([entry.read() for entry in entries])
