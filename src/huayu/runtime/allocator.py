"""Main memory that a step gives back stays with the process, so that the next step need not fetch its pages anew."""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt and what they are set to: blocks up to 32 MiB (the most it takes) come from the heap,
# and the heap is not given back while the process lives.
_SETTINGS = ((-3, 32 << 20), (-1, 2**31 - 1))


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees; true where the C library can.

    For a program of its own, such as the command line: a prompt's temporaries are some hundred megabytes of pages that
    the kernel would else clear again for every answer. A library should leave its host's allocator alone, so nothing
    calls this but :mod:`huayu.cli` and the benchmarks.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return all(mallopt(parameter, value) == 1 for parameter, value in _SETTINGS)


def give_back_freed_memory() -> bool:
    """Hand pages that are free now back to the system, once; true where the C library could. Settings stay."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    return trim is not None and trim(0) == 1
