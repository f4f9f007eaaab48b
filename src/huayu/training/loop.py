"""The one training loop. A stage says what a batch and its loss are; everything else is here.

Batch ``i`` depends on the seed and ``i`` alone, so a run that was killed goes on exactly where its checkpoint was.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
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

from huayu.training.checkpoint import Best, resume, save, take_up, trained_state
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
    """Settings of the loop. ``learning_rate`` may be overridden per parameter by ``p.lr_scale`` factors.

    ``batch_size`` rows are taken ``accumulate`` times for one step. With ``patience`` the run ends when the figure
    ``watch`` of so many evaluations in a row was no smaller than the smallest so far, and the weights of that one are
    exported; 0 runs to the last step and exports what it has.
    """

    output: str
    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 200
    cooldown: float = 0.4  # share of the steps over which the rate falls to its floor
    floor: float = 0.02
    weight_decay: float = 0.01
    beta2: float = 0.98
    clip: float = 1.0
    accumulate: int = 1
    patience: int = 0
    watch: str = "loss"
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
        _parameter_groups(module, settings), lr=settings.learning_rate, betas=(0.9, settings.beta2), eps=1e-9
    )
    checkpoint, best = folder / "checkpoint.pt", Best(folder / "best.pt")
    start = resume(checkpoint, module, optimizer, best)
    plain = module.to(accelerator.device)
    module, optimizer = accelerator.prepare(module, optimizer)
    log = _Log(folder / "log.jsonl", start)
    main, saved = accelerator.is_main_process, time.monotonic()
    batches = _batches(stage, settings, accelerator, start)
    ended = settings.patience > 0 and best.stood >= settings.patience
    steps = () if ended else _steps(stage, module, optimizer, accelerator, batches, start, settings)
    for step, loss, parts, busy in steps:
        last = step == settings.steps
        if main and (step % settings.log_every == 0 or last):
            log.write(step=step, loss=loss, cpu_minutes=busy / 60, **parts)
        if step % settings.evaluate_every == 0 or last:
            figures = _evaluate(stage, plain, accelerator)
            if main:
                log.write(step=step, evaluation=figures)
                print(step, json.dumps(figures, ensure_ascii=False), flush=True)
                draw_curves(folder / "log.jsonl", folder / "curves.png")
            if settings.patience:
                best.see(figures[settings.watch], plain)
                last = last or best.stood >= settings.patience
        if main and (last or time.monotonic() - saved > settings.save_minutes * 60):
            state = {"module": trained_state(plain), "optimizer": optimizer.state_dict()}
            save(checkpoint, {**state, "step": step, "best": [best.value, best.stood]})
            saved = time.monotonic()
        if last:
            break
    if main:
        if settings.patience:
            take_up(plain, torch.load(best.file, map_location=accelerator.device, weights_only=True))
        plain.eval()
        stage.export(plain, folder)
    return folder


def _batches(stage: Stage, settings: LoopSettings, accelerator: Accelerator, start: int) -> DataLoader:
    """Batches of this process from step ``start`` on: ``accumulate`` of them a step, none twice."""
    world, rank, each = accelerator.num_processes, accelerator.process_index, settings.accumulate
    order = range(start * each * world + rank, settings.steps * each * world, world)
    return DataLoader(
        _Batches(stage, settings.batch_size), sampler=order, batch_size=None, num_workers=settings.workers
    )


def _evaluate(stage: Stage, module: nn.Module, accelerator: Accelerator) -> dict[str, float]:
    module.eval()
    with torch.no_grad(), accelerator.autocast():
        figures = dict(stage.evaluate(module))
    module.train()
    return figures


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
        feed, share = iter(batches), 1 / settings.accumulate
        for step in range(start + 1, settings.steps + 1):
            torch.manual_seed(step * accelerator.num_processes + accelerator.process_index)  # of what drops out
            factor = rate_at(step - 1, settings)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * group["scale"] * factor
            total, sums = 0.0, Counter[str]()
            for _ in range(settings.accumulate):
                batch = {name: value.to(accelerator.device, non_blocking=True) for name, value in next(feed).items()}
                with accelerator.autocast(), _attention_for(accelerator.device):
                    loss, parts = stage.loss(module, batch)
                if not torch.isfinite(loss):
                    torch.save({"step": step, "batch": batch}, Path(settings.output) / "bad_batch.pt")
                    raise FloatingPointError(f"loss is {loss.item()} at step {step}; the batch is saved beside the log")
                accelerator.backward(loss * share)
                total += loss.item() * share
                sums.update({name: part.item() * share for name, part in parts.items()})
            accelerator.clip_grad_norm_(module.parameters(), settings.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            progress.update(bar, advance=1, loss=f"loss {total:.3f}")
            yield step, total, dict(sums), time.process_time()
