"""Tensors of a checkpoint, mapped from the disk: nothing is read before it is asked for, nothing is executed."""

from __future__ import annotations

import ctypes
import mmap
import pickle
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from huayu.checkpoints import sniff
from huayu.errors import CheckpointError

# Keys under which training tools put the state dict itself.
_WRAPPERS = ("state_dict", "module", "model")
_MADV_DONTNEED = 4


@dataclass(frozen=True)
class Entry:
    """One tensor that has not been read yet. ``computed``: reading it makes a tensor in memory, not a mapped one.

    ``own``: and nothing else has it, so that whoever reads it may keep it.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    computed: bool = False
    own: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor as it is stored."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class LazyTensors(Mapping[str, Tensor]):
    """Name → CPU tensor that lies in the mapped file; do not write to it. ``files`` are what it was opened from.

    ``mapped`` is False for files written by torch.save before version 1.6, which can only be read whole into memory.
    """

    def __init__(self, entries: Mapping[str, Entry], files: tuple[Path, ...], mapped: bool = True) -> None:
        self.entries = dict(entries)
        self.files = files
        self.mapped = mapped

    def __getitem__(self, name: str) -> Tensor:
        return self.entries[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape, from the header alone."""
        return {name: entry.shape for name, entry in self.entries.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors as they are stored."""
        return sum(entry.nbytes for entry in self.entries.values())

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype that most bytes are in (float32 when there is none)."""
        total: dict[torch.dtype, int] = {}
        for entry in self.entries.values():
            if entry.dtype.is_floating_point:
                total[entry.dtype] = total.get(entry.dtype, 0) + entry.nbytes
        return max(total, key=lambda dtype: total[dtype], default=torch.float32)

    def release(self, tensor: Tensor) -> None:
        """Say that the pages of a tensor read from here are not needed now; reading it again is still right."""
        if self.mapped:
            _drop_pages(tensor)


def open_tensors(path: str | Path) -> LazyTensors:
    """Open a file of weights, or the folder that holds one model's weights.

    safetensors (one file or shards with an index) and ``torch.save`` files (a flat state dict, or one under
    ``state_dict``, ``module`` or ``model``). Raises CheckpointError for everything else: a pickle with code in it, a
    file that is cut short, a missing shard, a state dict that holds other things than tensors.
    """
    path = Path(path)
    if path.is_file():
        return _open_file(path)
    if not path.is_dir():
        raise CheckpointError(f"There is no {path}.", f"找不到 {path}。")
    weights = sniff.weight_files(path)
    parts = [_open_file(file) for file in weights.files]
    entries: dict[str, Entry] = {}
    for file, part in zip(weights.files, parts, strict=True):
        for name, entry in part.entries.items():
            if name in entries or weights.index.get(name, file.name) != file.name:
                raise CheckpointError(f"{name} is in two shards of {path}.", f"{path} 的两个分片都有 {name}。")
            entries[name] = entry
    lost = [name for name in weights.index if name not in entries]
    if lost:
        raise CheckpointError(
            f"{lost[0]} is in the index of {path} but in no shard ({len(lost)} such keys).",
            f"{path} 的索引中有 {lost[0]}，但分片中没有（共 {len(lost)} 个）。",
        )
    return LazyTensors(entries, weights.files, all(part.mapped for part in parts))


def _open_file(path: Path) -> LazyTensors:
    kind = sniff.file_kind(path)
    if kind == "safetensors":
        return _open_safetensors(path)
    state = _unwrapped(_load_pickle(path, mapped=kind == "zip"), path)
    entries = {name: Entry(tuple(t.shape), t.dtype, partial(_same, t)) for name, t in state.items()}
    return LazyTensors(entries, (path,), kind == "zip")


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _open_safetensors(path: Path) -> LazyTensors:
    try:
        handle = safe_open(str(path), framework="pt", device="cpu")
        entries = {}
        for name in handle.keys():  # noqa: SIM118 (the handle is no mapping)
            part = handle.get_slice(name)
            dtype = handle.get_tensor(name).dtype
            entries[name] = Entry(tuple(part.get_shape()), dtype, partial(handle.get_tensor, name))
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is a damaged safetensors file: {error}.", f"{path} 是损坏的 safetensors 文件：{error}。"
        ) from error
    return LazyTensors(entries, (path,))


def _load_pickle(path: Path, mapped: bool) -> Any:
    """The object in a ``torch.save`` file; the restricted unpickler builds tensors and plain containers only."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of unusual pickle protocols before it refuses them
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:unsupported )?GLOBAL:? ([\w.]+)", str(error), re.IGNORECASE)
        what = found.group(1) if found else "an unknown instruction"
        raise CheckpointError(
            f"{path} was refused: the pickle asks for more than tensors ({what}). Nothing in it was executed.",
            f"已拒绝 {path}：其中的 pickle 含有张量以外的内容（{what}）。没有执行其中任何代码。",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = str(error).split(". ")[0][:200]
        raise CheckpointError(
            f"{path} cannot be read, it is cut short or damaged: {reason}.",
            f"无法读取 {path}，文件不完整或已损坏：{reason}。",
        ) from error


def _unwrapped(state: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(state, Mapping):
        inner = next((state[key] for key in _WRAPPERS if isinstance(state.get(key), Mapping)), state)
        foreign = [f"{key} ({type(value).__name__})" for key, value in inner.items() if not isinstance(value, Tensor)]
        if inner and not foreign:
            return {str(key): value for key, value in inner.items()}
        what = foreign[0] if foreign else "nothing"
    else:
        what = type(state).__name__
    raise CheckpointError(
        f"{path} is not a state dict: it holds {what} where tensors should be.",
        f"{path} 不是 state dict：应为张量之处是 {what}。",
    )


@cache
def _madvise() -> Callable[[int, int, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    function = ctypes.CDLL(None, use_errno=True).madvise
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function


def _drop_pages(tensor: Tensor) -> None:
    """Give the whole pages inside a mapped, unmodified tensor back to the page cache."""
    advise = _madvise()
    if advise is None or not tensor.is_contiguous():
        return
    start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (tensor.data_ptr() + tensor.nbytes - start) // mmap.PAGESIZE * mmap.PAGESIZE
    if length > 0:
        advise(start, length, _MADV_DONTNEED)
