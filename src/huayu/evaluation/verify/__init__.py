"""``huayu verify PATH…``: are a model's numbers those of the published system, is a model folder whole?

A path is a golden case (a folder whose ``config.json`` names a ``case``) or a model folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def main(paths: Sequence[str], *, as_json: bool = False) -> int:
    """Verify every path and print one line per comparison; 0 when all are ok, else 1. See :mod:`.runner`."""
    from huayu.evaluation.verify import runner

    return runner.main(paths, as_json=as_json)


def __getattr__(name: str) -> Any:
    if name in ("Check", "Report"):
        from huayu.evaluation.verify import report

        return getattr(report, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
