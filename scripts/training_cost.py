"""What the options of training cost: seconds of one core and memory of a step, for the model in the package.

``python scripts/training_cost.py [--rows 32] [--steps 6]`` runs every variant in a process of its own on the rows of
examples/backgrounds and prints one line of JSON for each: CPU seconds of a step (without the first), memory beyond what
the opened model takes, and the share of the tokens that is padding. CPU only.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VARIANTS: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "full": ({}, {}),
    "full, gradient_checkpointing": ({}, {"gradient_checkpointing": True}),
    "full, ema": ({}, {"ema": 0.99}),
    "full, bf16": ({}, {"precision": "bf16"}),
    "full, pack": ({"pack": 512}, {}),
}


def peak() -> float:
    """The most memory that this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, rows: int, steps: int) -> dict[str, object]:
    """One variant in this process."""
    from huayu.training.finetune.stage import FinetuneStage
    from huayu.training.loop import LoopSettings, train

    changes, loop = VARIANTS[name]
    where = ROOT / "examples" / "backgrounds"
    mixed = [str(where), str(where / "rehearse.json")]  # long rows and short ones
    given = {"data": mixed, "pictures": str(where), "method": "full", "tune_vision": True, "asks": 0, **changes}
    stage = FinetuneStage("huayu-chat-mini", **given)  # type: ignore[arg-type]
    batch = stage.batch(0, rows)
    padding = 1 - float(batch["attention_mask"].float().mean())
    before = peak()
    with tempfile.TemporaryDirectory() as folder:
        fixed = {"steps": steps, "batch_size": rows, "learning_rate": 1e-4, "log_every": 1, "evaluate_every": 10**6}
        settings = {**fixed, "samples": 0, "device": "cpu", **loop}
        train(stage, LoopSettings(output=folder, **settings))  # type: ignore[arg-type]
        log = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
    spent = [row["cpu_minutes"] * 60 for row in log if "loss" in row]
    seconds = (spent[-1] - spent[0]) / (len(spent) - 1)
    return {
        "variant": name,
        "cpu_seconds": round(seconds, 2),
        "extra_mb": round(peak() - before),
        "padding": round(padding, 2),
    }


def main() -> None:
    """Every variant, or the one named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--variant", choices=list(VARIANTS))
    given = parser.parse_args()
    if given.variant:
        print(json.dumps(measure(given.variant, given.rows, given.steps)))
        return
    for name in VARIANTS:
        size = ["--rows", str(given.rows), "--steps", str(given.steps)]
        command = [sys.executable, __file__, "--variant", name, *size]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(done.stdout.splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
