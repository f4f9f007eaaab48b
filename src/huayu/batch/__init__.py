"""Many rows, done shard by shard: captions, answers or paintings for files of any size, on one machine or many."""

from __future__ import annotations

from huayu.batch.inputs import Row, Shard, read_shard, split
from huayu.batch.tasks import TASKS, Job
from huayu.batch.work import Report, run

__all__ = ["TASKS", "Job", "Report", "Row", "Shard", "read_shard", "run", "split"]
