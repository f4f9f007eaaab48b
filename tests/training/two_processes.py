"""What each of two processes runs: the same small fine-tunes, whole and shared out, one of them broken off.

``python -m torch.distributed.run --nproc-per-node 2 -m tests.training.two_processes MODEL ROWS PICTURES OUTPUT``; with
one process it gives what theirs is compared with.
"""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from huayu.errors import ModelError
from huayu.training.finetune.stage import FinetuneStage
from huayu.training.loop import LoopSettings, train
from huayu.training.sharding import end, world_size

RANK = int(os.environ.get("RANK", "0"))
RUNS = {
    "full": {"method": "full"},
    "lora": {"method": "lora", "tune_vision": True},
    "recomputed": {"method": "full", "loop": {"gradient_checkpointing": True, "ema": 0.5}},
}
WAYS = {"full": ("none", "full"), "lora": ("full",), "recomputed": ("full",)}


class Watched(FinetuneStage):
    """Notes which rows it is asked for and how parameters lie; it can be told to stop at a batch."""

    def __init__(self, notes: Path, stops: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.notes, self.stops, self.seen = notes, stops, []
        made = self.batcher

        def watched(examples: Any) -> Any:
            self.seen += [example.question for example in examples if example.question != "?"]
            return made(examples)

        self.batcher = watched  # type: ignore[assignment]

    def batch(self, index: int, size: int) -> Any:
        if self.stops and index // world_size() == 2:
            raise KeyboardInterrupt
        before = len(self.seen)
        found = super().batch(index, size)
        with self.notes.open("a") as file:
            for question in self.seen[before:]:
                file.write(json.dumps(question) + "\n")
        return found

    def loss(self, module: nn.Module, batch: Any) -> Any:
        shared = [p for p in module.parameters() if isinstance(p, DTensor)]
        held = sum(p.to_local().numel() for p in shared)
        facts = {
            "shared": len(shared),
            "all": len(list(module.parameters())),
            "held": held,
            "whole": sum(p.numel() for p in shared),
            "mesh": [p.device_mesh.size() for p in shared[:1]],
        }
        self.notes.with_suffix(".facts").write_text(json.dumps(facts))
        return super().loss(module, batch)


def main(model: str, rows: str, pictures: str, output: str) -> None:
    """Every run of :data:`RUNS` in the ways of sharing it."""
    torch.set_num_threads(1)
    if world_size() > 1:
        dist.init_process_group("gloo")
    for name, run in RUNS.items():
        for sharding in WAYS[name] if world_size() > 1 else ("none",):
            where = Path(output) / f"{name}-{sharding}"
            where.mkdir(parents=True, exist_ok=True)
            changes: Any = dict(run)
            loop = {"steps": 3, "batch_size": 4 // world_size(), "learning_rate": 1e-3, "warmup": 1, "log_every": 1,
                    "evaluate_every": 3, "sharding": sharding, "samples": 1, **changes.pop("loop", {})}  # fmt: skip
            made = {"model": model, "data": rows, "pictures": pictures, "split": 0.0, "asks": 0, **changes}
            notes = where / f"rows-{RANK}.jsonl"
            if (name, sharding) == ("recomputed", "full"):
                stopping = LoopSettings(output=str(where), device="cpu", **{**loop, "save_minutes": 0.0})
                try:
                    with patch("os.fsync", lambda _: time.sleep(1)):  # a slow disk: the other one is back before
                        train(Watched(notes, stops=True, **made), stopping)
                    raise AssertionError("it was to stop")
                except KeyboardInterrupt:
                    print(f"process {RANK} stopped", flush=True)
            train(Watched(notes, **made), LoopSettings(output=str(where), device="cpu", **loop))
    if world_size() > 1:
        _apart(model, rows, pictures, Path(output))
        dist.destroy_process_group()


def _apart(model: str, rows: str, pictures: str, output: Path) -> None:
    """Each process with a folder of its own, of which one holds a checkpoint."""
    where = output / f"apart-{RANK}"
    where.mkdir()
    if RANK == 0:
        shutil.copy(output / "full-full" / "checkpoint.pt", where)
    stage = FinetuneStage(model=model, data=rows, pictures=pictures, split=0.0, asks=0, method="full")
    try:
        train(stage, LoopSettings(output=str(where), device="cpu", steps=3, batch_size=2, learning_rate=1e-3))
    except ModelError as refused:
        (where / "refused.txt").write_text(refused.en, "utf-8")


if __name__ == "__main__":
    faulthandler.dump_traceback_later(500, exit=True)  # where one waits for the other for ever, say where
    main(*sys.argv[1:])
    end(0)
