"""What the GPU scripts share: timing on a device, figures that are written one by one, an end in time."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.setting import Scale, environment

Case = tuple[str, Callable[[], None]]


class Bench:
    """A device, and what was found out on it: written to ``name``.json after every figure. Subclasses say what."""

    name = ""

    def __init__(self, device: torch.device, scale: Scale, out: Path, deadline: float) -> None:
        self.device, self.scale, self.out, self.deadline = device, scale, out, deadline
        self.found: dict[str, Any] = {}
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{self.name}.log").write_text("", "utf-8")
        self.note(**environment(device))
        start = time.perf_counter()
        self.model = self.build()
        self.wait()
        self.note(build_seconds=time.perf_counter() - start)
        self.note(parameters=sum(parameter.numel() for parameter in self.model.parameters()))

    def build(self) -> Any:
        """The model on the device."""
        raise NotImplementedError

    def cases(self) -> list[Case]:
        """What is measured, each with its name."""
        raise NotImplementedError

    def note(self, **figures: Any) -> None:
        """Keep, print and write."""
        self.found |= {k: round(v, 5) if isinstance(v, float) else v for k, v in figures.items()}
        (self.out / f"{self.name}.json").write_text(json.dumps(self.found, indent=1) + "\n", "utf-8")
        line = f"{time.strftime('%H:%M:%S')} " + " ".join(f"{name}={self.found[name]}" for name in figures)
        print(line, flush=True)
        with (self.out / f"{self.name}.log").open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    def wait(self) -> None:
        """Until the device has done all it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object], rounds: int | None = None) -> float:
        """Median wall time of ``work`` and of the device finishing it, after one round that does not count."""
        taken = []
        for _ in range((rounds or self.scale.rounds) + 1):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            taken.append(time.perf_counter() - start)
        return statistics.median(taken[1:])

    def copy(self) -> None:
        """Bandwidth of the device's memory."""
        source = torch.ones(self.scale.copied_bytes, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        seconds = self.seconds(lambda: target.copy_(source), rounds=10)
        self.note(copy_gb_per_second=2 * source.nbytes / seconds / 1e9)

    def fresh_peak(self) -> None:
        """Count memory from here."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_gb(self) -> float | None:
        """Most memory that tensors had since :meth:`fresh_peak`; None without a GPU."""
        return torch.cuda.max_memory_allocated(self.device) / 1e9 if self.device.type == "cuda" else None

    def run(self) -> dict[str, Any]:
        """Everything there is time for."""
        self.copy()
        longest = 0.0
        for name, case in self.cases():
            start = time.monotonic()
            if start + longest > self.deadline:
                self.note(left_out=[*self.found.get("left_out", []), name])
                continue
            case()
            longest = max(longest, time.monotonic() - start)
        return self.found


def start(bench: type[Bench], full: Scale, tiny: Scale, about: str, arguments: list[str] | None) -> dict[str, Any]:
    """The command line of a script; returns what it writes."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a tiny shape on the CPU")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "runs/gpu")))
    parser.add_argument("--seconds", type=float, default=480)
    options = parser.parse_args(arguments)
    deadline = time.monotonic() + options.seconds
    if not options.tiny and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --tiny runs on the CPU")
    device = torch.device("cpu" if options.tiny else "cuda")
    return bench(device, tiny if options.tiny else full, options.out, deadline).run()
