"""Does all jobs in two processes of one thread each, and can be killed and called again at any moment."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console

from huayu.checkpoints.atomic import write_text
from huayu.data import pictograms
from huayu.errors import ModelError
from huayu.experiments.transfer.jobs import Workshop
from huayu.experiments.transfer.plan import Job, plan
from huayu.experiments.transfer.settings import Setting, setting_of
from huayu.runtime.language import say

_workshop: Workshop | None = None


def run(setting: Setting, folder: Path, seeds: int, *, cache: Path, processes: int = 2) -> dict[str, dict[str, Any]]:
    """All results by the names of their jobs. ``processes`` 0: in this one. Raises ModelError for another setting."""
    folder.mkdir(parents=True, exist_ok=True)
    written = json.dumps(asdict(setting))
    note = folder / "setting.json"
    if note.exists() and note.read_text() != written:
        raise ModelError(f"{folder} holds a run of another setting.", f"{folder} 中是另一种规模的运行结果。")
    write_text(note, written)
    jobs, results = plan(seeds), {}
    console = Console(stderr=True)
    for job, result in _done(jobs, setting, folder, cache, processes):
        results[job.name] = result
        minutes = say(f"{result['cpu_minutes']:.1f} min", f"{result['cpu_minutes']:.1f} 分钟")
        console.print(f"[{len(results)}/{len(jobs)}] {job.name} {minutes}", highlight=False)
    return results


def _done(
    jobs: list[Job], setting: Setting, folder: Path, cache: Path, processes: int
) -> Iterator[tuple[Job, dict[str, Any]]]:
    if not processes:
        workshop = Workshop(setting, folder, cache)
        for job in jobs:
            yield job, workshop.do(job)
        return
    pictograms.pack(cache)  # once, before two processes would
    with ProcessPoolExecutor(processes, get_context("spawn"), _open, (setting.name, folder, cache)) as pool:
        waiting, finished = list(jobs), set[str]()
        running: dict[Future[dict[str, Any]], Job] = {}
        while waiting or running:
            for job in [j for j in waiting if finished.issuperset(j.needs)][: processes - len(running)]:
                waiting.remove(job)
                running[pool.submit(_do, job)] = job
            for future in wait(running, return_when=FIRST_COMPLETED)[0]:
                job = running.pop(future)
                yield job, future.result()
                finished.add(job.name)


def _open(name: str, folder: Path, cache: Path) -> None:
    """In a new process: one thread, and its words into a file."""
    global _workshop
    import torch

    torch.set_num_threads(1)
    log = (folder / f"process-{os.getpid()}.log").open("w")
    sys.stdout = sys.stderr = log
    _workshop = Workshop(setting_of(name), folder, cache)


def _do(job: Job) -> dict[str, Any]:
    assert _workshop is not None
    return _workshop.do(job)
