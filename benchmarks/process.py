"""Commands in processes of their own: memory is counted from nothing, and threads are set before any library starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def environment(threads: int | None = None) -> dict[str, str]:
    """The environment in which this checkout is imported, with so many threads (None: as they are set)."""
    count = {} if threads is None else dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return {**os.environ, **count, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}


def figures_of(module: str, *arguments: object, threads: int | None = None) -> dict[str, Any]:
    """What ``python -m module arguments`` prints as its last line: a JSON object. Raises CalledProcessError."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, env=environment(threads), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def seconds_of(*arguments: str) -> float:
    """Wall time of ``python arguments``, from its start to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environment(), cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start
