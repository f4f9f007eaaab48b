"""Every CPU benchmark: ``python benchmarks/run.py [--only decode,chat] [--quick] [--json FILE]``.

Prints one flat JSON object of figures, with what it ran on, and writes it to ``--json`` after each benchmark.
``--quick`` takes tiny sizes: it shows that all runs, its figures mean nothing. docs/benchmarks.md says what is what.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from benchmarks import chat, concurrency, decode, load, paint, quantized, synthetic, training  # noqa: E402 (the checkout comes first)

Figures = dict[str, Any]


def _load(quick: bool) -> Figures:
    sizes = synthetic.SMALL if quick else synthetic.LARGE
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synthetic.pt"
        synthetic.write_chat(path, sizes)
        (found,) = load.measure((path, None, False))
    return {"load_peak_ratio": found["load_peak_ratio"], "load_gb_per_second": found["gb_per_second"]}


def benchmarks(model: str | None = None) -> dict[str, Callable[[bool], Figures]]:
    """Name → what measures it, given whether to be quick. ``model`` is the one to chat with."""
    return {
        "decode": decode.figures,
        "decode_glm": lambda quick: decode.figures(quick, glm=True),
        "quantized": quantized.figures,
        "load": _load,
        "start": lambda quick: chat.starting(1 if quick else 5),
        "chat": lambda quick: chat.figures(quick, model),
        "training": training.figures,
        "concurrency": lambda quick: concurrency.figures(quick, model),
        "paint": lambda quick: {**paint.figures(quick), **paint.unet_figures(quick)},
    }


def environment() -> Figures:
    """What the figures were made on, and when. ``load_average``: what else ran in the minute before."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": _memory_gb(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "diffusers")},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


def main(arguments: list[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"some of {', '.join(benchmarks())}; between commas")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--model", help="the model to chat with: a folder, a file or a name; else the embedded one")
    options = parser.parse_args(arguments)
    known = benchmarks(options.model)
    chosen = options.only.split(",") if options.only else list(known)
    if unknown := set(chosen) - set(known):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    found: Figures = {"quick": options.quick, **environment()}
    for name in chosen:
        start = time.perf_counter()
        print(f"{name} …", file=sys.stderr, flush=True)
        found |= known[name](options.quick)
        found[f"{name}_benchmark_seconds"] = round(time.perf_counter() - start, 1)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
