"""What a run leaves on the disk: what it has learnt so far, and the best of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def save(path: Path, state: dict[str, Any]) -> None:
    """Write aside, flush to the disk, rename: a kill at any moment, or a full disk, leaves a whole file."""
    aside = path.with_suffix(".tmp")
    try:
        with aside.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError):  # torch reports a full disk as the latter
        aside.unlink(missing_ok=True)
        raise
    aside.replace(path)


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """What training changes: parameters that learn, and buffers."""
    buffers = {name for name, _ in module.named_buffers()}
    state = module.state_dict(keep_vars=True)
    return {name: value.detach() for name, value in state.items() if value.requires_grad or name in buffers}


def take_up(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what :func:`trained_state` gave; the rest stays. Raises RuntimeError when it is another model's."""
    missing, unexpected = module.load_state_dict(state, strict=False)
    if lost := [*unexpected, *(name for name in missing if module.get_parameter(name).requires_grad)]:
        raise RuntimeError(f"the checkpoint belongs to another model: {lost[0]}")


@dataclasses.dataclass
class Best:
    """The smallest figure so far, and how many evaluations it has stood."""

    file: Path
    value: float = float("inf")
    stood: int = 0

    def see(self, value: float, module: nn.Module) -> None:
        self.stood += 1
        if value < self.value:
            self.value, self.stood = value, 0
            save(self.file, trained_state(module))


def resume(checkpoint: Path, module: nn.Module, optimizer: torch.optim.Optimizer, best: Best) -> int:
    """Take up a checkpoint where there is one; the step it was saved at, else 0."""
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    take_up(module, state["module"])
    optimizer.load_state_dict(state["optimizer"])
    best.value, best.stood = state.get("best", (best.value, best.stood))
    return int(state["step"])
