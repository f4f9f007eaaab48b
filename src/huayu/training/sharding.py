"""The processes of a run: one, several with the whole model each, or several that share its parameters out.

``torchrun`` starts them and tells each its number by ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK``.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map_only

from huayu.errors import ModelError

_PATIENCE = timedelta(hours=2)  # others wait while the first process asks its samples and exports


def world_size() -> int:
    """Processes of this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process that writes."""
    return os.environ.get("RANK", "0") == "0"


def end(code: int) -> NoReturn:
    """End this process of several at once, with what it has printed.

    DTensor's caches keep the group and so Gloo's threads until the interpreter goes, and a thread that then wants the
    interpreter aborts the process, all work done. Source: https://github.com/pytorch/pytorch/issues/190489.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Team:
    """This process among those of the run. ``device``: "cpu", or anything for a GPU where there is one."""

    def __init__(self, device: str, precision: str) -> None:
        self.rank, self.world = int(os.environ.get("RANK", "0")), world_size()
        on_gpu = device != "cpu" and torch.cuda.is_available()
        self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if on_gpu else torch.device("cpu")
        self.half = precision == "bf16" or (precision == "auto" and on_gpu)
        self.apart = False
        if on_gpu:
            torch.cuda.set_device(self.device)
        self._joined = self.world > 1 and not dist.is_initialized()
        if self._joined:
            dist.init_process_group("nccl" if on_gpu else "gloo", timeout=_PATIENCE)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return is_first()

    def autocast(self) -> AbstractContextManager[Any]:
        """Matrix products in bf16, where that is asked for; weights keep their dtype."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.half else nullcontext()

    def sum(self, values: list[float]) -> list[float]:
        """Each number added up over all processes."""
        if self.world == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def same(self, value: Any) -> Any:
        """What the first process has."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, device=self.device)
        return box[0]

    def to_learn(self, module: nn.Module) -> None:
        """Training mode, but for batch norms that do not learn, or whose rows are spread over several processes.

        They keep their statistics: an adapter has no place for others, and one process sees its own rows only.
        """
        module.train()
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.train(self.world == 1 and any(p.requires_grad for p in part.parameters()))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            dist.barrier()

    def leave(self) -> None:
        """Wait for the others, then part."""
        self.wait()
        if self._joined:
            dist.destroy_process_group()

    def spread(self, module: nn.Module, sharding: str) -> tuple[nn.Module, nn.Module]:
        """What is called in training, and the same under the names of ``module``.

        "none": ``module`` itself, on the device. "full": its parameters shared out; in the first process those of a
        copy, and ``module`` stays whole, on the CPU, ``apart`` from it. Raises ModelError for weights that cannot be.
        """
        if sharding == "full" and self.world > 1:
            self.apart = True
            shared = _shared_out(copy.deepcopy(module) if self.first else module, self.device)
            return shared, shared
        module.to(self.device)
        if self.world == 1:
            return module, module
        local = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, local, find_unused_parameters=True), module


def _shared_out(module: nn.Module, device: torch.device) -> nn.Module:
    """Every block of its own, so that only one is whole at a time. In place."""
    if any("4bit" in type(parameter).__name__ for parameter in module.parameters()):
        raise ModelError(
            '4-bit weights cannot be shared out: sharding = "none".', "4 比特权重不能分片：请用 sharding=none。"
        )
    mesh = dist.init_device_mesh(device.type, (dist.get_world_size(),))
    blocks = {name for part in module.modules() for name in getattr(part, "_no_split_modules", None) or ()}
    for part in reversed(list(module.modules())):
        if type(part).__name__ in blocks or part is module:
            fully_shard(part, mesh=mesh, reshard_after_forward=True)
    for buffer in module.buffers():
        buffer.data = buffer.data.to(device)
    return module


def whole(state: Any, *, keep: bool = True) -> Any:
    """Tensors of a state put together on the CPU; every process must ask. Without ``keep`` they are let go again."""

    def together(shard: DTensor) -> Tensor | None:
        full = shard.full_tensor()
        return full.cpu() if keep else None

    return tree_map_only(DTensor, together, state)


def shared_like(value: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, where ``like`` is shared out."""
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def local(parameter: Tensor) -> Tensor:
    """The numbers that this process holds of it, without a gradient; the same memory."""
    return (parameter.to_local() if isinstance(parameter, DTensor) else parameter).detach()


def scales(module: nn.Module) -> Mapping[str, float]:
    """Learning-rate factors by name: copies do not keep them."""
    return {name: getattr(parameter, "lr_scale", 1.0) for name, parameter in module.named_parameters()}
