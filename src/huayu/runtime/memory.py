"""How much memory there is, and placing a model that is larger than the GPU's share of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
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


def place(model: nn.Module, device: torch.device, placement: Placement, capped: str) -> None:
    """Move ``model`` to ``device`` in place; on CUDA within ``placement``, by hooks that fetch what waits.

    ``capped``: the submodule that ``language_model_bytes`` speaks of. Elsewhere than on CUDA a placement means nothing
    and the model simply moves.
    """
    if device.type != "cuda" or placement.is_plain:
        model.to(device)
        return
    from accelerate import dispatch_model

    dispatch_model(model, device_map=device_map(model, device, placement, capped), main_device=device)


def device_map(
    model: nn.Module, device: torch.device, placement: Placement, capped: str
) -> dict[str, int | str | torch.device]:
    """Module name → ``device`` or ``"cpu"``, for accelerate. Layers of the capped submodule go on while they fit."""
    from accelerate import infer_auto_device_map

    if placement.offload_all:
        return dict.fromkeys((name for name, _ in _top_level(model)), "cpu")
    place_of: dict[str, int | str | torch.device] = dict.fromkeys((name for name, _ in _top_level(model)), device)
    part = model.get_submodule(capped)
    budget = {device.index or 0: placement.language_model_bytes, "cpu": 2**62}
    inner = infer_auto_device_map(
        part, max_memory=budget, no_split_module_classes=getattr(part, "_no_split_modules", None)
    )
    del place_of[capped]
    place_of.update({f"{capped}.{name}" if name else capped: where for name, where in inner.items()})
    return place_of


@contextmanager
def guarded() -> Iterator[None]:
    """Turns the failures of torch that mean a full device into OutOfMemory."""
    try:
        yield
    except MemoryError as problem:
        raise OutOfMemory from problem
    except RuntimeError as problem:
        # torch.OutOfMemoryError on a GPU; on the CPU a plain RuntimeError of its allocator.
        if type(problem).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(problem):
            raise OutOfMemory from problem
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


def _top_level(model: nn.Module) -> list[tuple[str, object]]:
    """Children and the model's own parameters: together they hold everything."""
    return [*model.named_children(), *model.named_parameters(recurse=False)]
