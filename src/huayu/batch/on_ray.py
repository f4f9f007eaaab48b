"""The shards of a batch as a data set of Ray: actors on any node take them and put them in their place."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from huayu.batch.inputs import Shard
from huayu.batch.tasks import ROW_ERRORS, AnyJob
from huayu.batch.work import Tell, do_shard, finished
from huayu.errors import HuayuError
from huayu.runtime import cluster


class _ShardWorker:
    """An actor with a model; Ray starts it anew, and gives its shards out again, when its process dies."""

    def __init__(self, job: AnyJob, shards: dict[int, Shard]) -> None:
        self.job, self.shards, self.worker = job, shards, job.open_worker()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        said: dict[str, list[Any]] = {"rows": [], "problem": []}
        for number in batch["number"].tolist():
            shard, problem = self.shards[number], ("", "", "")
            try:
                if not finished(self.job, shard):
                    do_shard(self.job, shard, self.worker, lambda _: None)
            except HuayuError as error:  # as data: Ray would wrap it and try again
                problem = (type(error).__name__, error.en, error.zh)
            said["rows"].append(shard.count)
            said["problem"].append(json.dumps(problem))
        return said


def run_shards(job: AnyJob, shards: Sequence[Shard], workers: int, tell: Tell) -> None:
    """See :func:`huayu.batch.run`. Raises HuayuError."""
    with cluster.connected(workers + 1) as connected:
        from ray import data as ray_data

        logging.getLogger("ray.data").setLevel(logging.WARNING)
        context = ray_data.DataContext.get_current()
        context.enable_progress_bars = False  # ours is there
        context.target_max_block_size = 2**20  # rows are tiny; Ray sets room aside for large ones
        gpus = 1 if job.loading.get("device") is None and connected.cluster_resources().get("GPU") else 0
        table = {shard.number: shard for shard in shards}
        data = ray_data.from_items([{"number": number} for number in table], override_num_blocks=min(len(table), 4096))
        done = data.map_batches(
            _ShardWorker,
            fn_constructor_args=(job, table),
            batch_size=1,
            compute=ray_data.ActorPoolStrategy(size=workers),
            num_cpus=1,
            num_gpus=gpus,
        )
        for row in done.iter_rows():
            kind, en, zh = json.loads(row["problem"])
            if kind:
                raise {error.__name__: error for error in ROW_ERRORS}.get(kind, HuayuError)(en, zh)
            tell(row["rows"])
