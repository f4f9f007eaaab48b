"""What a run leaves on the disk: what it has learnt so far, and the best of it.

Files hold whole tensors, however the parameters are shared out: a run goes on with any number of processes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from huayu.errors import ModelError
from huayu.training.ema import Average
from huayu.training.sharding import Team, shared_like, whole


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
    own = module.state_dict(keep_vars=True)
    parts = {name: shared_like(value, own[name]) if name in own else value for name, value in state.items()}
    missing, unexpected = module.load_state_dict(parts, strict=False)
    if lost := [*unexpected, *(name for name in missing if own[name].requires_grad)]:
        raise RuntimeError(f"the checkpoint belongs to another model: {lost[0]}")


def base_of(module: nn.Module) -> str:
    """What a run stands on: a hash of the first numbers of all that does not learn, whatever its dtype."""
    digest = hashlib.sha256()
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            few = parameter.detach().flatten()[:64].cpu()
            few = (few.bfloat16() if few.is_floating_point() else few).contiguous().view(torch.uint8)
            digest.update(name.encode() + few.numpy().tobytes())
    return digest.hexdigest()


@dataclasses.dataclass
class Best:
    """The smallest figure so far, and how many evaluations it has stood."""

    file: Path
    value: float = float("inf")
    stood: int = 0

    def see(self, value: float, module: nn.Module, *, first: bool = True) -> None:
        """Keep the weights when they are the best; the ``first`` process writes, but all must ask."""
        self.stood += 1
        if value < self.value:
            self.value, self.stood = value, 0
            state = whole(trained_state(module), keep=first)
            if first:
                save(self.file, state)


@dataclasses.dataclass
class Learner:
    """What a checkpoint holds. ``module``: under the names of the stage's own, shared out or not; ``base``: what
    :func:`base_of` tells of it."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    average: Average
    best: Best
    base: str

    def save(self, path: Path, step: int, *, first: bool = True) -> None:
        """The ``first`` process writes, but all must ask."""
        state: dict[str, Any] = {"module": trained_state(self.module), "optimizer": self.optimizer.state_dict()}
        state = whole(state, keep=first)
        if self.average.decay:
            with self.average.shown():
                state["average"] = whole(trained_state(self.module), keep=first)
                if first:
                    state["average"] = {name: value.clone() for name, value in state["average"].items()}
        if first:
            best = [self.best.value, self.best.stood]
            save(path, {**state, "step": step, "best": best, "base": self.base})

    def resume(self, path: Path) -> int:
        """Take up a checkpoint where there is one; the step it was saved at, else 0. Raises ModelError when the weights
        that do not learn are others than those it was made beside."""
        if not path.exists():
            return 0
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state.get("base", self.base) != self.base:
            raise ModelError(
                f"{path.parent} holds a run on another model: name another folder.",
                f"{path.parent} 中是另一个模型的训练：请换一个文件夹。",
            )
        if self.average.decay:
            take_up(self.module, state.get("average", state["module"]))
            self.average.take()
        take_up(self.module, state["module"])
        self.optimizer.load_state_dict(self._shared_out(state["optimizer"]))
        self.best.value, self.best.stood = state.get("best", (self.best.value, self.best.stood))
        return int(state["step"])

    def _shared_out(self, state: dict[str, Any]) -> dict[str, Any]:
        """The optimizer's state, of each parameter the part that this process has of the parameter."""
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        each = {
            at: {name: value if name == "step" else shared_like(value, parameters[at]) for name, value in found.items()}
            for at, found in state["state"].items()
        }
        return {**state, "state": each}


def resume_together(learner: Learner, path: Path, team: Team) -> int:
    """The step to go on from, the same in all processes. Raises ModelError where they do not share the folder."""
    team.wait()  # the first may still be writing, where a run that was broken off goes on at once
    start = learner.resume(path)
    if team.sum([float(start != team.same(start))])[0]:  # all leave, or the others would wait for those that did
        raise ModelError(
            f"The processes see different checkpoints: {path.parent} must be one folder for all of them.",
            f"各进程看到的检查点不同：须共用同一个文件夹 {path.parent}。",
        )
    return start
