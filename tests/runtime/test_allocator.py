"""Freed memory stays with the process that asked for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from huayu.runtime.allocator import keep_freed_memory

SCRIPT = """
from pathlib import Path
from huayu.runtime.allocator import give_back_freed_memory, keep_freed_memory
if {keep}: keep_freed_memory()
def resident(): return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
before = resident()
blocks = [b"x" * 8_000_000 for _ in range(4)]
del blocks
print(resident() - before)
if {keep}: give_back_freed_memory()
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of Linux")
def test_freed_blocks_stay_resident_until_they_are_given_back() -> None:
    if not keep_freed_memory():
        pytest.skip("a C library without mallopt")
    kept, given_back = {}, {}
    for keep in (True, False):
        command = [sys.executable, "-c", SCRIPT.format(keep=keep)]
        kept[keep], given_back[keep] = map(int, subprocess.run(command, capture_output=True, check=True).stdout.split())
    assert kept[True] > 24_000_000 > 12_000_000 > kept[False]
    assert given_back[True] < 12_000_000
