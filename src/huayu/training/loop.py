"""The one training loop. A stage says what a batch and its loss are; everything else is here.

Batch ``i`` depends on the seed and ``i`` alone, so a run that was killed goes on exactly where its checkpoint was.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from rich.progress import Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset

from huayu.training.curves import draw_curves

Batch = dict[str, Tensor]


class Stage(Protocol):
    """What one stage of a recipe defines."""

    def module(self) -> nn.Module:
        """All that is trained or saved."""
        ...

    def batch(self, index: int, size: int) -> Batch:
        """Batch ``index``: a function of the stage's seed and the index only."""
        ...

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss to minimise and parts of it worth logging."""
        ...

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """Figures on data never trained on."""
        ...

    def export(self, module: nn.Module, folder: Path) -> None:
        """Write what later stages need."""
        ...


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """Settings of the loop. ``learning_rate`` may be overridden per parameter by ``p.lr_scale`` factors."""

    output: str
    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 200
    cooldown: float = 0.4  # share of the steps over which the rate falls to its floor
    floor: float = 0.02
    weight_decay: float = 0.01
    clip: float = 1.0
    log_every: int = 50
    evaluate_every: int = 1000
    save_minutes: float = 3.0
    workers: int = 0
    threads: int = 1
    device: str = "auto"
    precision: str = "auto"  # "fp32", "bf16"; auto: bf16 on a GPU, fp32 on a CPU, where it is the faster one

    @classmethod
    def names(cls) -> list[str]:
        return [field.name for field in dataclasses.fields(cls)]


def rate_at(step: int, settings: LoopSettings) -> float:
    """Learning-rate factor: linear warm-up, constant, linear cool-down to the floor."""
    left = (settings.steps - step) / max(1.0, settings.cooldown * settings.steps)
    return min(1.0, (step + 1) / max(1, settings.warmup)) * max(settings.floor, min(1.0, left))


class _Batches(Dataset):
    def __init__(self, stage: Stage, size: int) -> None:
        self.stage, self.size = stage, size

    def __getitem__(self, index: int) -> Batch:
        return self.stage.batch(index, self.size)


def _parameter_groups(module: nn.Module, settings: LoopSettings) -> list[dict[str, Any]]:
    """By learning-rate scale, and without decay for vectors."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            groups.setdefault((getattr(parameter, "lr_scale", 1.0), parameter.ndim > 1), []).append(parameter)
    return [
        {"params": params, "scale": scale, "weight_decay": settings.weight_decay / scale if decays else 0.0}
        for (scale, decays), params in groups.items()
    ]


def _attention_for(device: torch.device) -> AbstractContextManager[None]:
    """On a CPU the fused kernel's backward pass is slower than plain matmuls for rows as short as ours."""
    return sdpa_kernel([SDPBackend.MATH]) if device.type == "cpu" else nullcontext()


def _save(path: Path, state: dict[str, Any]) -> None:
    """Write aside, flush to the disk, rename: a kill at any moment leaves a whole file."""
    aside = path.with_suffix(".tmp")
    with aside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


class _Log:
    def __init__(self, path: Path, step: int) -> None:
        kept = []
        if path.exists():  # drop lines written after the checkpoint that we resume from
            kept = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= step]
        path.write_text("".join(line + "\n" for line in kept))
        self.path = path

    def write(self, **row: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def train(stage: Stage, settings: LoopSettings) -> Path:
    """Train to ``settings.steps``, resuming from the output folder's checkpoint. Returns the folder."""
    torch.set_num_threads(settings.threads)
    on_cpu = settings.device == "cpu" or not torch.cuda.is_available()
    precision = {"fp32": "no", "auto": "no" if on_cpu else "bf16"}.get(settings.precision, settings.precision)
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=precision)
    folder = Path(settings.output)
    folder.mkdir(parents=True, exist_ok=True)
    module = stage.module()
    optimizer = torch.optim.AdamW(
        _parameter_groups(module, settings), lr=settings.learning_rate, betas=(0.9, 0.98), eps=1e-9
    )
    checkpoint = folder / "checkpoint.pt"
    start = _resume(checkpoint, module, optimizer)
    plain = module.to(accelerator.device)
    module, optimizer = accelerator.prepare(module, optimizer)
    world, rank = accelerator.num_processes, accelerator.process_index
    order = range(start * world + rank, settings.steps * world, world)
    batches = DataLoader(
        _Batches(stage, settings.batch_size), sampler=order, batch_size=None, num_workers=settings.workers
    )
    log = _Log(folder / "log.jsonl", start)

    def save(step: int) -> None:
        if accelerator.is_main_process:
            _save(checkpoint, {"module": plain.state_dict(), "optimizer": optimizer.state_dict(), "step": step})

    saved = time.monotonic()
    for step, loss, parts, busy in _steps(stage, module, optimizer, accelerator, batches, start, settings):
        last = step == settings.steps
        if accelerator.is_main_process and (step % settings.log_every == 0 or last):
            log.write(step=step, loss=loss, cpu_minutes=busy / 60, **parts)
        if step % settings.evaluate_every == 0 or last:
            plain.eval()
            with torch.no_grad(), accelerator.autocast():
                figures = dict(stage.evaluate(plain))
            plain.train()
            if accelerator.is_main_process:
                log.write(step=step, evaluation=figures)
                print(step, json.dumps(figures, ensure_ascii=False), flush=True)
                draw_curves(folder / "log.jsonl", folder / "curves.png")
        if last or time.monotonic() - saved > settings.save_minutes * 60:
            save(step)
            saved = time.monotonic()
    if accelerator.is_main_process:
        plain.eval()
        stage.export(plain, folder)
    return folder


def _resume(checkpoint: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Take up a checkpoint where there is one; the step it was saved at, else 0."""
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _steps(
    stage: Stage,
    module: nn.Module,
    optimizer: Any,
    accelerator: Accelerator,
    batches: DataLoader,
    start: int,
    settings: LoopSettings,
) -> Iterator[tuple[int, float, dict[str, float], float]]:
    """Optimise over the batches; yields (steps done, loss, its parts, CPU seconds of this process)."""
    module.train()
    columns = (
        *Progress.get_default_columns()[:3],
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not accelerator.is_main_process) as progress:
        bar = progress.add_task(Path(settings.output).name, total=settings.steps, completed=start, loss="")
        for step, batch in enumerate(batches, start + 1):
            factor = rate_at(step - 1, settings)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * group["scale"] * factor
            batch = {name: value.to(accelerator.device, non_blocking=True) for name, value in batch.items()}
            with accelerator.autocast(), _attention_for(accelerator.device):
                loss, parts = stage.loss(module, batch)
            if not torch.isfinite(loss):
                torch.save({"step": step, "batch": batch}, Path(settings.output) / "bad_batch.pt")
                raise FloatingPointError(f"loss is {loss.item()} at step {step}; the batch is saved beside the log")
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(module.parameters(), settings.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            progress.update(bar, advance=1, loss=f"loss {loss.item():.3f}")
            yield step, loss.item(), {name: part.item() for name, part in parts.items()}, time.process_time()
