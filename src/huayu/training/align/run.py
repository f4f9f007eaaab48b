"""A pair of models joined and taught, in one part or two."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from huayu.training.align.stage import AlignStage
from huayu.training.loop import LoopSettings, train

# Source: LLaVA-1.5 (arXiv 2310.03744), appendix: 1e-3 for the connector alone, 2e-4 for LoRA.
RATE, LORA_RATE = 1e-3, 2e-4


def run(
    stage: dict[str, Any],
    loop: LoopSettings,
    *,
    lora: bool = False,
    instructions: str = "",
    learning_rate: float = LORA_RATE,
) -> dict[str, Any]:
    """Train the connector, then with ``lora`` both, on ``instructions`` (none: the same data); the last report.

    ``loop``: of the first part, which ends in ``output/connector`` when there is a second; ``learning_rate``: of that.
    """
    output = Path(loop.output)
    first = output / "connector" if lora else output
    train(AlignStage(**stage), replace(loop, output=str(first)))
    if lora:
        shared = ("data", "evaluation", "pictures", "split", "check_pictures", "dtype", "seed", "rank")
        second = {name: stage[name] for name in shared if name in stage}
        if instructions:
            second |= {"data": instructions, "evaluation": ""}
        again = AlignStage(model=str(first / "model"), lora=True, **second)
        train(again, replace(loop, learning_rate=learning_rate))
    report: dict[str, Any] = json.loads((output / "report.json").read_text("utf-8"))
    return report
