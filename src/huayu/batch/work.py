"""Shards of a job, each written whole or not at all; what is there is not done again."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

from huayu.batch.inputs import Shard
from huayu.batch.tasks import AnyJob, Worker
from huayu.checkpoints.atomic import replacing, write_text
from huayu.errors import HuayuError, ModelError, OptionError

# Pools that may break (a worker was killed) without a shard being finished between, before we give up.
_PATIENCE = 3
Tell = Callable[[int], None]


@dataclass(frozen=True)
class Report:
    """``rows`` in the output, ``errors`` among them; ``done_rows`` of this run in ``seconds``; ``tokens`` written."""

    rows: int
    errors: int
    pictures: int
    tokens: int
    done_rows: int
    seconds: float
    rows_per_second: float
    tokens_per_second: float
    pictures_per_second: float


def run(job: AnyJob, *, workers: int = 0, ray: bool = False, tell: Callable[[int, int], None] | None = None) -> Report:
    """Does every shard that ``job.output`` has not, and reports; ``tell(rows done, rows in all)`` as it goes.

    ``workers`` processes, each with a model of its own; 0 works in this one. ``ray``: the workers are actors of a Ray
    cluster, which must see inputs and output under the same paths. A worker that dies is replaced and its shard done
    again. Raises OptionError when ``output`` holds another job; with ``stop_on_error`` what was wrong with a row.
    """
    shards, fingerprint = job.split()
    _claim(job, fingerprint)
    total, begin = sum(shard.count for shard in shards), time.perf_counter()
    todo = [shard for shard in shards if not finished(job, shard)]
    done = before = total - sum(shard.count for shard in todo)

    def more(rows: int) -> None:
        nonlocal done
        done += rows
        if tell is not None:
            tell(done, total)

    more(0)
    if not todo:
        """All is there."""
    elif ray:
        from huayu.batch.on_ray import run_shards

        run_shards(job, todo, max(1, workers), more)
    elif workers:
        _in_processes(job, todo, workers, more)
    else:
        worker = job.open_worker()
        for shard in todo:
            do_shard(job, shard, worker, more)
    report = _report(job, shards, total - before, time.perf_counter() - begin)
    write_text(job.output / "report.json", json.dumps(asdict(report), indent=1) + "\n")
    return report


def finished(job: AnyJob, shard: Shard) -> bool:
    """Whether its folder is there, which then is whole."""
    return (job.output / shard.name).is_dir()


def do_shard(job: AnyJob, shard: Shard, worker: Worker, tell: Tell) -> None:
    """One line in ``results.jsonl`` or ``errors.jsonl`` for each row, and a summary; appears as a whole folder.

    When another worker has finished it meanwhile, that one's work stays.
    """
    folder, begin = job.output / shard.name, time.perf_counter()
    counts = {"rows": 0, "errors": 0, "pictures": 0, "tokens": 0}
    try:
        with replacing(folder) as aside:
            aside.mkdir()
            with (
                (aside / "results.jsonl").open("w", encoding="utf-8") as results,
                (aside / "errors.jsonl").open("w", encoding="utf-8") as errors,
            ):
                for row, outcome in worker(job.read(shard), aside):
                    named = {"id": row.id, "source": Path(row.source).name, "row": row.number}
                    counts["rows"] += 1
                    if isinstance(outcome, HuayuError):
                        if job.stop_on_error:
                            raise type(outcome)(f"{row.id}: {outcome.en}", f"{row.id}：{outcome.zh}") from outcome
                        counts["errors"] += 1
                        said = {"error": type(outcome).__name__, "message": outcome.en, "message_zh": outcome.zh}
                        errors.write(_line(named | said))
                    else:
                        counts["pictures"] += len(outcome.get("pictures", ()))
                        said_now = outcome.get("answers", [outcome])
                        counts["tokens"] += sum(said.get("tokens", 0) for said in said_now)
                        results.write(_line(named | outcome))
                    tell(1)
            seconds = round(time.perf_counter() - begin, 3)
            (aside / "summary.json").write_text(_line(counts | {"seconds": seconds}), "utf-8")
    except (OSError, HuayuError):
        if not folder.is_dir():
            raise


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _claim(job: AnyJob, fingerprint: str) -> None:
    """Writes down what the output is of. Raises OptionError when it is of something else."""
    plan = json.loads(json.dumps(job.plan() | {"inputs": fingerprint}, default=str))
    path = job.output / "plan.json"
    if not path.is_file():
        if job.output.is_dir() and any(not file.name.startswith(".") for file in job.output.iterdir()):
            raise OptionError(f"{job.output} is not empty.", f"{job.output} 不是空文件夹。")
        write_text(path, json.dumps(plan, ensure_ascii=False, indent=1) + "\n")
        return
    before = json.loads(path.read_text("utf-8"))
    if differing := [name for name in plan if plan[name] != before.get(name)]:
        names = ", ".join(differing)
        raise OptionError(
            f"{job.output} holds another batch (different: {names}); give another output.",
            f"{job.output} 是另一批任务的输出（不同之处：{names}）；请换一个输出文件夹。",
        )


def _report(job: AnyJob, shards: Sequence[Shard], done_rows: int, seconds: float) -> Report:
    """Counts of all shards; rates of this run, by its share of the rows."""
    found = [json.loads((job.output / shard.name / "summary.json").read_text("utf-8")) for shard in shards]
    sums = {name: sum(summary[name] for summary in found) for name in ("rows", "errors", "pictures", "tokens")}
    share = done_rows / max(1, sums["rows"]) / max(seconds, 1e-9)
    rates = {f"{name}_per_second": round(sums[name] * share, 3) for name in ("rows", "tokens", "pictures")}
    return Report(**sums, done_rows=done_rows, seconds=round(seconds, 3), **rates)


_worker: tuple[AnyJob, Worker] | None = None


def _open_in_process(job: AnyJob, threads: int, devices: Any) -> None:
    import torch

    global _worker
    torch.set_num_threads(threads)
    device = devices.get()
    _worker = job, (job if device is None else _on(job, device)).open_worker()


def _on(job: AnyJob, device: str) -> AnyJob:
    return replace(job, loading={**job.loading, "device": device})  # type: ignore[type-var]


def _do_in_process(shard: Shard) -> int:
    assert _worker is not None
    do_shard(_worker[0], shard, _worker[1], lambda _: None)
    return shard.count


def _in_processes(job: AnyJob, todo: list[Shard], workers: int, tell: Tell) -> None:
    """A pool breaks when one of its processes dies: another goes on with what is left."""
    threads, patience = max(1, (os.cpu_count() or 1) // workers), _PATIENCE
    context = multiprocessing.get_context("spawn")
    while todo:
        devices = context.SimpleQueue()
        for _, device in zip(range(workers), _devices(job), strict=False):
            devices.put(device)
        told = set[int]()
        with ProcessPoolExecutor(workers, context, _open_in_process, (job, threads, devices)) as pool:
            futures = {pool.submit(_do_in_process, shard): shard for shard in todo}
            try:
                for future in as_completed(futures):
                    tell(future.result())
                    told.add(futures[future].number)
            except BrokenProcessPool:
                """Below."""
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        tell(sum(shard.count for shard in todo if shard.number not in told and finished(job, shard)))
        left = [shard for shard in todo if not finished(job, shard)]
        patience = _PATIENCE if len(left) < len(todo) else patience - 1
        if not patience:
            raise ModelError("The workers die again and again.", "工作进程反复退出。")
        todo = left


def _devices(job: AnyJob) -> Iterator[str | None]:
    """One for each worker: all GPUs in turn, unless the job names a device."""
    if job.loading.get("device") is None:
        with suppress(ImportError):
            import torch

            if count := torch.cuda.device_count():
                while True:
                    yield from (f"cuda:{index}" for index in range(count))
    yield from repeat(None)
