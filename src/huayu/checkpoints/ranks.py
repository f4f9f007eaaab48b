"""Tensors of a sat folder. Those of a model that ran in parallel, one file a rank, are joined as they are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from huayu.checkpoints import lora
from huayu.checkpoints.reader import Entry, LazyTensors, open_tensors
from huayu.checkpoints.sat import rank_files
from huayu.errors import CheckpointError

# How a tensor is divided among ranks: axis, and in how many parts along it each rank holds its share of every one.
# Names that none fits are on every rank alike.
_TENSOR = r"(weight|bias)"
_DIVIDED: tuple[tuple[re.Pattern[str], int, int], ...] = tuple(
    (re.compile(pattern), axis, parts)
    for pattern, axis, parts in (
        (rf".*\.query_key_value\.{_TENSOR}", 0, 3),
        (rf".*\.cross_attention\.key_value\.{_TENSOR}", 0, 2),
        (rf".*\.(cross_attention\.query|mlp\.dense_h_to_4h)\.{_TENSOR}", 0, 1),
        (r"transformer\.word_embeddings\.weight|mixins\.chatglm-final\.lm_head\.weight", 0, 1),
        (r".*\.(attention\.dense|cross_attention\.dense|mlp\.dense_4h_to_h)\.weight", 1, 1),
        (r"mixins\.ptuning\.prefix\.\d+", 1, 1),
    )
)
_UNKNOWN = re.compile(r".*\.weight_scale")


def open_sat(folder: Path) -> LazyTensors:
    """Tensors of the latest iteration, by their names in sat. Raises CheckpointError for what is missing or damaged.

    A rank of several has LoRA pairs of its own, of its share of the weight, and may have started them from numbers of
    its own: they are merged into the share, as published code merges them.
    """
    files = rank_files(folder)
    with torch.serialization.safe_globals(_numpy_state()):
        ranks = [open_tensors(file) for file in files]
    if len(ranks) == 1:
        return ranks[0]
    ranks = [lora.merged(rank) for rank in ranks]
    entries: dict[str, Entry] = {}
    for name in ranks[0].entries:
        if absent := [file.name for file, rank in zip(files, ranks, strict=True) if name not in rank.entries]:
            raise CheckpointError(f"{absent[0]} has no {name}.", f"{absent[0]} 中没有 {name}。")
        entries[name] = _joined(name, [rank.entries[name] for rank in ranks])
    return LazyTensors(entries, tuple(files), all(rank.mapped for rank in ranks))


def divided(tensor: Tensor, name: str, ranks: int) -> Sequence[Tensor]:
    """A tensor's shares, one for each rank: the reverse of what reading does."""
    rule = _rule(name)
    if rule is None:
        return [tensor] * ranks
    axis, parts = rule
    shares = [part.chunk(ranks, dim=axis) for part in tensor.chunk(parts, dim=axis)]
    return [torch.cat([share[rank] for share in shares], dim=axis) for rank in range(ranks)]


def _rule(name: str) -> tuple[int, int] | None:
    return next(((axis, parts) for pattern, axis, parts in _DIVIDED if pattern.fullmatch(name)), None)


def _joined(name: str, entries: Sequence[Entry]) -> Entry:
    rule, first = _rule(name), entries[0]
    if _UNKNOWN.fullmatch(name) or any(entry.shape != first.shape for entry in entries):
        raise CheckpointError(f"The ranks' {name} cannot be joined.", f"无法合并各并行分片的 {name}。")
    if rule is None:
        return first
    axis, parts = rule
    shape = tuple(size * len(entries) if n == axis else size for n, size in enumerate(first.shape))
    return Entry(shape, first.dtype, partial(_read_joined, entries, axis, parts), computed=True)


def _read_joined(entries: Sequence[Entry], axis: int, parts: int) -> Tensor:
    shares = [entry.read().chunk(parts, dim=axis) for entry in entries]
    return torch.cat([share[part] for part in range(parts) for share in shares], dim=axis)


def _numpy_state() -> list[Any]:
    """What a numpy array is made of in a pickle: training runs keep their random state beside the weights."""
    rebuild = np._core.multiarray._reconstruct  # type: ignore[attr-defined]
    kinds = [type(np.dtype(kind)) for kind in (np.uint32, np.int64, np.float64)]
    return [np.ndarray, np.dtype, *kinds, rebuild, (rebuild, "numpy.core.multiarray._reconstruct")]
