"""Memory and speed of loading: ``python -m benchmarks.load [--size large|middle] [--dtype float16]``.

Writes a synthetic checkpoint in the published layout (large: 2.3 GB) unless ``--file`` names one, opens it in a fresh
process and prints one JSON object. ``load_peak_ratio``: anonymous memory at its peak, above the level after imports,
over the bytes of the model in its target dtype. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing import get_context
from pathlib import Path

SIZES = ("large", "middle", "small")


Figures = dict[str, float | int | str]
Case = tuple[Path, str | None, bool]


def measure(*cases: Case) -> list[Figures]:
    """For each (checkpoint, dtype or None, mmap): the figures of opening it in a process that did nothing before."""
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)])}
    command = [sys.executable, "-m", "benchmarks.load", "--cases", json.dumps(cases, default=str)]
    done = subprocess.run(command, env=environment, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def measure_each(cases: list[Case]) -> list[Figures]:
    """Import once, then fork for each case, so that none finds memory that another has left."""
    from huayu.models.viscpm_chat import VisCPMChatForConditionalGeneration, published  # noqa: F401

    with get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        return pool.starmap(measure_here, cases, chunksize=1)


def measure_here(path: Path, dtype_name: str | None, mmap: bool) -> Figures:
    """Open the checkpoint in this process."""
    import torch

    from huayu.checkpoints.find import locate
    from huayu.checkpoints.opening import open_model

    dtype = getattr(torch, dtype_name) if dtype_name else None
    before = _anonymous()
    with Peak() as peak:
        start, cpu_start = time.perf_counter(), time.process_time()
        opened = open_model(locate(path), dtype, mmap=mmap, progress=peak.look)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    nbytes = sum(tensor.nbytes for tensor in opened.model.state_dict().values())
    return {
        "load_peak_ratio": round((peak.value - before) / nbytes, 4),
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "gb_per_second": round(nbytes / 1e9 / seconds, 3),
        "model_bytes": nbytes,
        "file_bytes": Path(path).stat().st_size,
        "imports_bytes": before,
        "dtype": str(opened.model.dtype).removeprefix("torch."),
        "tensors": len(opened.report.loaded),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


class Peak:
    """Watches anonymous memory from a thread; ``value`` is the most it saw, in bytes."""

    def __enter__(self) -> Peak:
        self.value = _anonymous()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self.look()

    def look(self, *_progress: int) -> None:
        """Look once, as after each tensor."""
        self.value = max(self.value, _anonymous())

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.look()


def _anonymous() -> int:
    # The same pages that smaps counts as Anonymous, but read without holding up those who map memory.
    status = Path("/proc/self/status").read_text("ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")) * 1024


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="large")
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "float32"))
    parser.add_argument("--mmap", action="store_true", help="keep the tensors in the mapped file")
    parser.add_argument("--file", type=Path, help="measure this checkpoint")
    parser.add_argument("--cases", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cases:
        print(json.dumps(measure_each(json.loads(options.cases))))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or Path(folder) / "synthetic.pt"
        if not options.file:
            from benchmarks import synthetic

            synthetic.write_chat(path, getattr(synthetic, options.size.upper()))
        print(json.dumps(measure((path, options.dtype, options.mmap))[0], indent=1))


if __name__ == "__main__":
    main()
