"""Freed memory stays with the process that asked for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from huayu.runtime.allocator import keep_freed_memory

SCRIPT = """
from pathlib import Path
from huayu.runtime.allocator import keep_freed_memory
if {keep}: keep_freed_memory()
def resident(): return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
before = resident()
blocks = [b"x" * 8_000_000 for _ in range(4)]
del blocks
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of Linux")
def test_freed_blocks_stay_resident() -> None:
    if not keep_freed_memory():
        pytest.skip("a C library without mallopt")
    kept = {
        keep: int(
            subprocess.run([sys.executable, "-c", SCRIPT.format(keep=keep)], capture_output=True, check=True).stdout
        )
        for keep in (True, False)
    }
    assert kept[True] > 24_000_000 > 12_000_000 > kept[False]
