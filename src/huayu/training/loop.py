"""The one training loop. A stage says what a batch and its loss are; everything else is here.

Batch ``i`` depends on the seed and ``i`` alone, so a run that was killed goes on exactly where its checkpoint was.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset

from huayu.training.checkpoint import Best, Learner, base_of, resume_together, take_up, trained_state
from huayu.training.ema import Average
from huayu.training.journal import Journal, Sample, progress
from huayu.training.recompute import recompute
from huayu.training.settings import LoopSettings, rate_at
from huayu.training.sharding import Team, scales, whole

__all__ = ["Batch", "LoopSettings", "Showing", "Stage", "rate_at", "train"]

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
        """The loss to minimise, a mean over the ``labels`` of the batch where it has some, and parts worth logging."""
        ...

    def evaluate(self, module: nn.Module) -> Mapping[str, float]:
        """Figures on data never trained on."""
        ...

    def export(self, module: nn.Module, folder: Path) -> None:
        """Write what later stages need."""
        ...


@runtime_checkable
class Showing(Protocol):
    """A stage that can show what the model has learnt so far."""

    def samples(self, module: nn.Module, count: int) -> Sequence[Sample]:
        """``count`` answers or pictures, always of the same rows."""
        ...


class _Batches(Dataset):
    def __init__(self, stage: Stage, size: int) -> None:
        self.stage, self.size = stage, size

    def __getitem__(self, index: int) -> Batch:
        return self.stage.batch(index, self.size)


def _parameter_groups(module: nn.Module, settings: LoopSettings, factors: Mapping[str, float]) -> list[dict[str, Any]]:
    """By learning-rate scale (``factors``, by name), and without decay for vectors."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((factors[name], parameter.ndim > 1), []).append(parameter)
    return [
        {"params": params, "scale": scale, "weight_decay": settings.weight_decay / scale if decays else 0.0}
        for (scale, decays), params in groups.items()
    ]


def _attention_for(device: torch.device) -> AbstractContextManager[None]:
    """On a CPU the fused kernel's backward pass is slower than plain matmuls for rows as short as ours."""
    return sdpa_kernel([SDPBackend.MATH]) if device.type == "cpu" else nullcontext()


def train(stage: Stage, settings: LoopSettings) -> Path:
    """Train to ``settings.steps``, resuming from the output folder's checkpoint. Returns the folder."""
    torch.set_num_threads(settings.threads)
    team = Team(settings.device, settings.precision)
    folder = _train(stage, settings, team)
    team.leave()
    return folder


def _train(stage: Stage, settings: LoopSettings, team: Team) -> Path:
    folder = Path(settings.output)
    folder.mkdir(parents=True, exist_ok=True)
    plain = stage.module()
    base = base_of(plain)
    if settings.gradient_checkpointing:
        recompute(plain)
    factors = scales(plain)
    module, named = team.spread(plain, settings.sharding)
    groups = _parameter_groups(named, settings, factors)
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, settings.beta2), eps=1e-9)
    learner = Learner(named, optimizer, Average(named, settings.ema), Best(folder / "best.pt"), base)
    start, saved = resume_together(learner, folder / "checkpoint.pt", team), time.monotonic()
    journal = Journal(folder, start, tensorboard=settings.tensorboard) if team.first else None
    look = _Look(stage, settings, team, learner, plain)
    ended = settings.patience > 0 and learner.best.stood >= settings.patience
    for done in () if ended else _steps(stage, module, learner, team, start, settings):
        last = done.step == settings.steps
        if journal and (done.step % settings.log_every == 0 or last):
            journal.step(done.step, {"loss": done.loss, "cpu_minutes": done.busy / 60, **done.parts})
        if done.step % settings.evaluate_every == 0 or last:
            look(done.step, journal)
            team.to_learn(module)
            last = last or 0 < settings.patience <= learner.best.stood
        if team.same(last or time.monotonic() - saved > settings.save_minutes * 60):
            learner.save(folder / "checkpoint.pt", done.step, first=team.first)
            saved = time.monotonic()
        if last:
            break
    with look.shown(best=settings.patience > 0):
        if team.first:
            plain.eval()
            stage.export(plain, folder)
    return folder


@dataclasses.dataclass
class _Look:
    """What evaluates. ``plain``: the stage's own module."""

    stage: Stage
    settings: LoopSettings
    team: Team
    learner: Learner
    plain: nn.Module

    def __call__(self, step: int, journal: Journal | None) -> None:
        """Measure the weights (their average, if there is one), keep the best, let the model show what it can."""
        with self.shown():
            self.learner.module.eval()
            with torch.no_grad(), self.team.autocast():
                figures = self.team.same(dict(self.stage.evaluate(self.learner.module)))
                samples: Sequence[Sample] = ()
                if journal and self.settings.samples and isinstance(self.stage, Showing):
                    self.plain.eval()
                    samples = self.stage.samples(self.plain, self.settings.samples)
            if self.settings.patience:
                self.learner.best.see(figures[self.settings.watch], self.learner.module, first=self.team.first)
        if journal:
            journal.evaluation(step, figures, samples)

    @contextmanager
    def shown(self, *, best: bool = False) -> Iterator[None]:
        """With the weights that count: the best or the average; also in the first process's plain module."""
        with nullcontext() if best else self.learner.average.shown():
            if best:
                kept = torch.load(self.learner.best.file, map_location="cpu", weights_only=True)
                take_up(self.learner.module, kept)
            if self.team.apart:
                state = whole(trained_state(self.learner.module), keep=self.team.first)
                if self.team.first:
                    take_up(self.plain, {name: value.cpu() for name, value in state.items()})
            yield


@dataclasses.dataclass(frozen=True)
class _Done:
    """A step: its loss and parts of it, over all processes; CPU seconds of this one."""

    step: int
    loss: float
    parts: dict[str, float]
    busy: float


def _feed(stage: Stage, settings: LoopSettings, team: Team, start: int) -> Iterator[list[Batch]]:
    """For each step after ``start`` the ``accumulate`` batches of this process; none twice over all processes."""
    each = settings.accumulate
    order = range(start * each * team.world + team.rank, settings.steps * each * team.world, team.world)
    batches = iter(
        DataLoader(_Batches(stage, settings.batch_size), sampler=order, batch_size=None, num_workers=settings.workers)
    )
    for _ in range(start, settings.steps):
        yield [
            {name: value.to(team.device, non_blocking=True) for name, value in next(batches).items()}
            for _ in range(each)
        ]


def _weight(batch: Batch) -> float:
    """What its mean loss counts: as many as it has tokens to learn, so that parts of a step are one large batch."""
    return float((batch["labels"] != -100).sum()) if "labels" in batch else 1.0


def _steps(
    stage: Stage, module: nn.Module, learner: Learner, team: Team, start: int, settings: LoopSettings
) -> Iterator[_Done]:
    """Optimise over the batches; yields each step done."""
    team.to_learn(module)
    with progress(Path(settings.output).name, start, settings.steps, shown=team.first) as report:
        feed = _feed(stage, settings, team, start)
        for step, batches in enumerate(feed, start + 1):
            torch.manual_seed(step * team.world + team.rank)  # of what drops out
            factor = rate_at(step - 1, settings)
            for group in learner.optimizer.param_groups:
                group["lr"] = settings.learning_rate * group["scale"] * factor
            weights = [_weight(batch) for batch in batches]
            total = team.sum([sum(weights)])[0]
            sums = Counter[str]()
            for batch, weight in zip(batches, weights, strict=True):
                share = weight / total
                with _attention_for(team.device):  # backward, too: it may compute states again
                    with team.autocast():
                        loss, parts = stage.loss(module, batch)
                    _must_be_a_number(loss, batch, step, settings)
                    (loss * (share * team.world)).backward()  # the processes' gradients are averaged
                sums.update({name: part.item() * share for name, part in {"loss": loss, **parts}.items()})
            torch.nn.utils.clip_grad_norm_(module.parameters(), settings.clip)
            learner.optimizer.step()
            learner.optimizer.zero_grad(set_to_none=True)
            learner.average.update(step)
            found = dict(zip(sums, team.sum(list(sums.values())), strict=True))
            report(found["loss"])
            yield _Done(step, found.pop("loss"), found, time.process_time())


def _must_be_a_number(loss: Tensor, batch: Batch, step: int, settings: LoopSettings) -> None:
    if not torch.isfinite(loss):
        torch.save({"step": step, "batch": batch}, Path(settings.output) / "bad_batch.pt")
        raise FloatingPointError(f"loss is {loss.item()} at step {step}; the batch is saved beside the log")
