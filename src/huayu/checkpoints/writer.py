"""Writing weights tensor by tensor: never more than one of them in memory, whatever the model's size."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from huayu.checkpoints.reader import LazyTensors
from huayu.errors import CheckpointError

Progress = Callable[[int], None]
_CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Item:
    """One tensor to write: its new name, its name in the source, and the dtype it is written in."""

    name: str
    key: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Bytes it takes in the file."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def items(tensors: LazyTensors, names: dict[str, str], dtype: torch.dtype | None) -> list[Item]:
    """``names``: new name → key of the source. Floating tensors are written in ``dtype``; None keeps their own.

    Scales of quantised weights always keep theirs: in another dtype they would be other weights.
    """

    def target(name: str, own: torch.dtype) -> torch.dtype:
        return dtype if dtype and own.is_floating_point and not name.endswith(".weight_scale") else own

    entries = tensors.entries
    return [Item(name, key, entries[key].shape, target(name, entries[key].dtype)) for name, key in names.items()]


def write_folder(
    folder: Path, tensors: LazyTensors, todo: Sequence[Item], max_shard_size: int, progress: Progress
) -> dict[str, str]:
    """Write ``model.safetensors``, or shards of at most ``max_shard_size`` bytes with their index.

    A tensor larger than that has a shard of its own. Returns file name → SHA-256. Tensors keep the source's order.
    """
    shards = shards_of(todo, max_shard_size)
    if len(shards) == 1:
        return {"model.safetensors": write_safetensors(folder / "model.safetensors", tensors, todo, progress)}
    digests, weight_map = {}, {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        digests[name] = write_safetensors(folder / name, tensors, shard, progress)
        weight_map.update(dict.fromkeys((item.name for item in shard), name))
    index = {"metadata": {"total_size": sum(item.nbytes for item in todo)}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", "utf-8")
    return digests


def write_safetensors(path: Path, tensors: LazyTensors, todo: Sequence[Item], progress: Progress) -> str:
    """Write one safetensors file and return its SHA-256. Wider types come first, so that every tensor is aligned."""
    ordered = sorted(todo, key=lambda item: -item.dtype.itemsize)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for item in ordered:
        if item.dtype not in _CODES:
            raise CheckpointError(
                f"{item.key} is {item.dtype}, which is not written.", f"不写出 {item.key} 的类型 {item.dtype}。"
            )
        end = offset + item.nbytes
        header[item.name] = {"dtype": _CODES[item.dtype], "shape": item.shape, "data_offsets": (offset, end)}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as file:

        def put(data: Any) -> None:
            digest.update(data)
            file.write(data)

        put(len(text).to_bytes(8, "little") + text)
        for item in ordered:
            source = tensors[item.key]
            put(_bytes(source.to(item.dtype)))
            tensors.release(source)
            progress(item.nbytes)
    return digest.hexdigest()


def needs_scratch(tensors: LazyTensors, item: Item) -> bool:
    """Whether the tensor that is written lies in no mapped file."""
    entry = tensors.entries[item.key]
    return entry.computed or entry.dtype != item.dtype


def write_state_dict(
    path: Path, tensors: Iterable[tuple[LazyTensors, Item]], progress: Progress, wrapper: str | None = None
) -> None:
    """Write a ``torch.save`` file: a flat state dict, or one under the key ``wrapper``.

    Tensors that lie in no mapped file wait in a scratch file beside it, not in memory.
    """
    pairs = list(tensors)
    changed = [(part, item) for part, item in pairs if needs_scratch(part, item)]
    state: dict[str, Tensor] = {}
    with tempfile.TemporaryDirectory(prefix=".huayu-", dir=path.parent, ignore_cleanup_errors=True) as scratch:
        room = _scratch(Path(scratch) / "scratch.bin", sum(_aligned(item.nbytes) for _, item in changed))
        offset = 0
        for part, item in pairs:
            source = part[item.key]
            if needs_scratch(part, item):
                value = room[offset : offset + item.nbytes].view(item.dtype).reshape(item.shape)
                offset += _aligned(item.nbytes)
                value.copy_(source)
                part.release(source)
                source = value
            state[item.name] = _own_storage(source)
            progress(item.nbytes)
        torch.save({wrapper: state} if wrapper else state, path)
        del state, room, source


def _scratch(path: Path, size: int) -> Tensor:
    """A byte tensor in a file, shared with it: its pages can leave memory for the disk."""
    if not size:
        return torch.empty(0)
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):  # a full disk must be an error here, not a fault when a page is written
            os.posix_fallocate(file.fileno(), 0, size)
    return torch.from_file(str(path), shared=True, size=size, dtype=torch.uint8)


def _aligned(size: int) -> int:
    return -(-size // 64) * 64


def _own_storage(tensor: Tensor) -> Tensor:
    """The same memory as a storage of exactly this tensor: torch.save writes whole storages."""
    tensor = tensor.contiguous()
    start, storage = tensor.storage_offset() * tensor.itemsize, tensor.untyped_storage()
    if start == 0 and storage.nbytes() == tensor.nbytes:
        return tensor
    return torch.empty(0, dtype=tensor.dtype).set_(
        storage[start : start + tensor.nbytes], 0, tensor.shape, tensor.stride()
    )


def _bytes(tensor: Tensor) -> Any:
    """The tensor's memory as a buffer, without a copy."""
    flat = tensor.contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy() if flat.numel() else b""


def shards_of(todo: Sequence[Item], max_shard_size: int) -> list[list[Item]]:
    """Items in order, in groups of at most so many bytes; a larger one has a group of its own."""
    shards: list[list[Item]] = [[]]
    size = 0
    for item in todo:
        if shards[-1] and size + item.nbytes > max_shard_size:
            shards.append([])
            size = 0
        shards[-1].append(item)
        size += item.nbytes
    return shards
