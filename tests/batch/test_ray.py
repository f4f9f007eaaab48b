"""The same job on two Ray workers of this machine, one killed on the way. Ray is not in the test set: it is large."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from huayu.batch import Job, run
from huayu.errors import ImageError
from tests.batch.test_run import DOG, once_each, read, write

pytest.importorskip("ray", reason="Ray is not installed (the extra scale)")
pytestmark = pytest.mark.filterwarnings("default")  # Ray warns of its own ways


def actors() -> list[psutil.Process]:
    """Ray's processes that hold one of our workers."""
    found = []
    for process in psutil.process_iter():
        try:
            if "_ShardWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            """It has ended."""
    return found


def test_two_ray_workers_one_killed(tmp_path: Path) -> None:
    rows = [{"image": DOG, "question": "图里是什么？"} for _ in range(22)]
    file = write(tmp_path / "rows.jsonl", *rows, "not json", {"image": "nowhere.png", "question": "?"})
    job = Job("ask", (file,), tmp_path / "out", loading={"device": "cpu"}, shard_size=2)
    killed: list[int] = []

    def kill() -> None:
        while not list(job.output.glob("shard-*/summary.json")):
            time.sleep(0.01)
        for process in actors()[:1]:
            os.kill(process.pid, signal.SIGKILL)
            killed.append(process.pid)

    threading.Thread(target=kill, daemon=True).start()
    report = run(job, workers=2, ray=True)
    assert len(killed) == 1
    assert (report.rows, report.errors) == (24, 2)
    assert once_each(job.output, 24)
    assert not list(job.output.glob(".*"))
    assert {row["answers"][0]["text"] for row in read(job.output, "results")} == {"这是一只狗。"}


def test_a_bad_row_ends_the_batch_by_choice(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", {"image": "nowhere.png", "question": "?"})
    job = Job("ask", (file,), tmp_path / "out", loading={"device": "cpu"}, stop_on_error=True)
    with pytest.raises(ImageError, match=r"rows\.jsonl#0: .*nowhere"):
        run(job, workers=1, ray=True)
    assert [path.name for path in job.output.iterdir()] == ["plan.json"]
