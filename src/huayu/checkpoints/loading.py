"""Filling a model that was built on the meta device, tensor by tensor, from mapped files."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn

from huayu.checkpoints.keymap import KeyMap
from huayu.checkpoints.reader import LazyTensors
from huayu.checkpoints.recast import taken_apart
from huayu.checkpoints.report import KeyReport, account
from huayu.errors import CheckpointError

Progress = Callable[[int, int], None]
_PIECE = 2**22  # numbers copied at a time: so many are in memory twice


def load_into(
    model: nn.Module,
    tensors: LazyTensors,
    keymap: KeyMap | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    *,
    mmap: bool = False,
    progress: Progress | None = None,
) -> KeyReport:
    """Fill ``model``, whose tensors are on the meta device, and return what became of every key.

    ``keymap``: how the checkpoint's names become the model's; None when they are the same. ``dtype``: of all floating
    tensors; None takes the one that most of the checkpoint is in. Other tensors keep the model's dtype.
    ``mmap``: CPU tensors that need no cast stay in the mapped file (no memory of their own; the file must stay).
    ``progress(done, total)`` is told bytes of the target after each tensor.

    Peak memory is the model in its target dtype: tensors are cast straight into place. Tied tensors stay tied.
    Raises CheckpointError, before anything is loaded, when a key is missing, extra or of another shape; and when the
    model has a tensor that no checkpoint holds and that it has not computed itself.
    """
    if keymap:
        tensors = taken_apart(tensors, keymap)
    slots = _slots(model)
    tied = _tied(slots)
    report = account({name: tuple(t.shape) for name, (_, t) in slots.items()}, tensors.shapes, keymap, tied)
    report.require(_name(tensors))
    dtype = dtype or tensors.dtype
    dtypes = {name: _target_dtype(slots[name], dtype) for name in report.loaded}
    sizes = {name: dtypes[name].itemsize * slots[name][1].numel() for name in report.loaded}
    done, total, device = 0, sum(sizes.values()), torch.device(device)
    placed: dict[str, Tensor] = {}
    for name, key in report.loaded.items():
        (module, attribute), like = slots[name]
        first = tied.get(name, name)
        if first in placed:
            _require_equal(placed[first], tensors[key], name)
        else:
            placed[first] = _materialise(tensors, key, like, dtypes[name], device, mmap)
        _put(module, attribute, placed[first])
        done += sizes[name]
        if progress:
            progress(done, total)
    for name, first in tied.items():
        _put(*slots[name][0], placed[first])
    _require_complete(model)
    for module in model.modules():
        if loaded_as := getattr(module, "loaded_as", None):  # layers that hold no floating tensor to tell it by
            loaded_as(dtype)
    return report


Slot = tuple[tuple[nn.Module, str], Tensor]


def _slots(model: nn.Module) -> dict[str, Slot]:
    """Name → (module, attribute) and tensor, for all that a state dict of the model holds."""
    slots: dict[str, Slot] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        path, _, attribute = name.rpartition(".")
        slots[name] = ((model.get_submodule(path), attribute), tensor)
    return slots


def _tied(slots: dict[str, Slot]) -> dict[str, str]:
    """Each further name of a shared tensor → its first name."""
    first: dict[int, str] = {}
    return {name: other for name, (_, t) in slots.items() if (other := first.setdefault(id(t), name)) != name}


def _target_dtype(slot: Slot, dtype: torch.dtype) -> torch.dtype:
    """``dtype`` for floating tensors but those that a module names in ``own_dtypes``."""
    (module, attribute), like = slot
    own = attribute in getattr(module, "own_dtypes", ())
    return dtype if like.dtype.is_floating_point and not own else like.dtype


def _materialise(
    tensors: LazyTensors, key: str, like: Tensor, dtype: torch.dtype, device: torch.device, mmap: bool
) -> Tensor:
    source = tensors[key]
    if source.dtype.is_floating_point != dtype.is_floating_point:
        raise CheckpointError(
            f"{key} is {source.dtype}, the model wants {dtype}.", f"{key} 的类型是 {source.dtype}，模型需要 {dtype}。"
        )
    if (mmap or tensors.entries[key].own) and device.type == "cpu" and source.dtype == dtype:
        value = source
    else:
        value = torch.empty(source.shape, dtype=dtype, device=device)
        for part, rows in zip(_pieces(value), _pieces(source), strict=True):
            part.copy_(rows)
            tensors.release(rows)
    return nn.Parameter(value, like.requires_grad) if isinstance(like, nn.Parameter) else value


def _pieces(tensor: Tensor) -> tuple[Tensor, ...]:
    """Groups of rows: a large tensor shall never be in memory twice."""
    rows = max(_PIECE // max(tensor[0].numel(), 1), 1) if tensor.ndim > 1 and len(tensor) else 0
    return tensor.split(rows) if rows else (tensor,)


def _require_equal(placed: Tensor, other: Tensor, name: str) -> None:
    if not torch.equal(placed.detach().cpu(), other.to(placed.dtype)):
        raise CheckpointError(
            f"{name} should be the same tensor as another one, but the checkpoint holds two different ones.",
            f"{name} 应与另一个张量共享，但检查点中两者不同。",
        )


def _put(module: nn.Module, attribute: str, value: Tensor) -> None:
    if attribute in module._parameters:
        module._parameters[attribute] = value  # type: ignore[assignment]
    else:
        module._buffers[attribute] = value


def _name(tensors: LazyTensors) -> str:
    first = tensors.files[0]
    return str(first if len(tensors.files) == 1 else first.parent)


def _require_complete(model: nn.Module) -> None:
    """Nothing may stay on the meta device: buffers that no checkpoint holds are for the model to compute."""
    empty = [name for name, tensor in chain(model.named_parameters(), model.named_buffers()) if tensor.is_meta]
    if empty:
        raise CheckpointError(
            f"The model was left without values for {empty[0]} ({len(empty)} such tensors).",
            f"模型的 {empty[0]} 没有得到数值（共 {len(empty)} 个）。",
        )
