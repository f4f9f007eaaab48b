"""How much memory there is, and placing a model that is larger than the GPU's share of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from huayu.errors import ModelError, OutOfMemory

if TYPE_CHECKING:
    import torch
    from torch import nn

_GIB = 2**30
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": _GIB, "t": 2**40}


def parse_size(text: str) -> int:
    """Bytes of ``"10g"``, ``"512MB"``, ``"1073741824"``; units are powers of 1024. Raises ModelError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text.lower())
    if match is None:
        raise ModelError(f"{text!r} is not a size of memory, such as 10g.", f"{text!r} 不是内存大小（例如 10g）。")
    return int(float(match[1]) * _UNITS[match[2]])


@dataclass(frozen=True)
class Placement:
    """Where a model goes when it may not fill the GPU.

    ``language_model_bytes``: the most that the language model may take there, the rest waits in main memory; None:
    no cap. ``offload_all``: every part waits in main memory and visits the GPU while it runs.
    """

    language_model_bytes: int | None = None
    offload_all: bool = False

    @property
    def is_plain(self) -> bool:
        """True when the whole model simply moves to the device."""
        return self.language_model_bytes is None and not self.offload_all


def placement_from_environment(environment: Mapping[str, str] | None = None) -> Placement:
    """``CUDA_MEMORY_CPMBEE_MAX`` (such as ``1g``) and ``CUDA_MEM_SAVE`` (``true``), as VisCPM's users set them.

    Raises ModelError for a size that is none. Source: spec viscpm §3.4.
    """
    environment = os.environ if environment is None else environment
    cap = environment.get("CUDA_MEMORY_CPMBEE_MAX", "").strip()
    save = environment.get("CUDA_MEM_SAVE", "").strip().lower()
    return Placement(parse_size(cap) if cap else None, save not in ("", "0", "false", "no", "off"))


def place(model: nn.Module, device: torch.device, placement: Placement, capped: str = "") -> list[str]:
    """Move ``model`` to ``device`` in place; on CUDA within ``placement``. Returns the names of layers that wait.

    ``capped``: the submodule that ``language_model_bytes`` speaks of. Layers that wait in main memory visit the GPU
    while they run. Elsewhere than on CUDA the whole model moves.
    """
    if device.type != "cuda" or placement.is_plain:
        model.to(device)
        return []
    waiting = waiting_layers(model, placement, capped)
    offload(model, waiting, device)
    return waiting


def waiting_layers(model: nn.Module, placement: Placement, capped: str = "") -> list[str]:
    """Names of the layers that do not fit: the last ones, so that one more can visit beside those that stay.

    Layers are what the model itself calls indivisible (``_no_split_modules``); all else stays on the GPU.
    """
    kinds = set(getattr(model, "_no_split_modules", None) or ())
    layers = {name: module for name, module in model.named_modules() if type(module).__name__ in kinds}
    if placement.offload_all or placement.language_model_bytes is None:
        return list(layers) if placement.offload_all else []
    mine = {
        name: _bytes(module) for name, module in layers.items() if f"{name}.".startswith(f"{capped}." if capped else "")
    }
    free = placement.language_model_bytes - (_bytes(model.get_submodule(capped)) - sum(mine.values()))
    if sum(mine.values()) <= free:
        return []
    free -= max(mine.values())
    waiting = []
    for name, size in mine.items():
        free -= size
        if free < 0:
            waiting.append(name)
    return waiting


def offload(model: nn.Module, waiting: Sequence[str], device: torch.device) -> None:
    """Leave the ``waiting`` submodules in main memory, to visit ``device`` while they run; move all else there."""
    from accelerate import cpu_offload

    inside = tuple(f"{name}." for name in waiting)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not name.startswith(inside):
            tensor.data = tensor.data.to(device)
    for name in waiting:
        cpu_offload(model.get_submodule(name), execution_device=device, offload_buffers=True)


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


@contextmanager
def guarded(*hint: str) -> Iterator[None]:
    """Turns the failures of torch that mean a full device into OutOfMemory with this ``hint`` (English, Chinese)."""
    try:
        yield
    except MemoryError as problem:
        raise OutOfMemory(*hint) from problem
    except RuntimeError as problem:
        # torch.OutOfMemoryError on a GPU; on the CPU a plain RuntimeError of its allocator.
        if type(problem).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(problem):
            raise OutOfMemory(*hint) from problem
        raise


def total_memory() -> int | None:
    """Bytes of main memory, or None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def available_memory() -> int | None:
    """Bytes of main memory that are free to take, or None where the system does not tell."""
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
