"""A fine-tune from its settings, and its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huayu.training.finetune.stage import FinetuneStage
from huayu.training.loop import LoopSettings, train

_SMALL = 1e9  # parameters; what is larger learns as published. Source: spec visualglm §9
_SMALL_RATES = {"full": 3e-4}


def run(
    stage: dict[str, Any],
    loop: dict[str, Any],
    *,
    learning_rate: float | None = None,
    tune_vision: bool | None = None,
) -> dict[str, Any]:
    """Train :class:`FinetuneStage` with :class:`LoopSettings`; returns its report.

    None: large models learn at the published rate of 1e-4 and keep their eye; small ones learn ten times as fast, and
    their eye, which has seen less, learns too.
    """
    made = FinetuneStage(**stage)
    small = sum(parameter.numel() for parameter in made.backend.model.parameters()) < _SMALL
    made.settings["tune_vision"] = small if tune_vision is None else tune_vision
    rate = learning_rate or (_SMALL_RATES.get(made.method, 1e-3) if small else 1e-4)
    folder = train(made, LoopSettings(learning_rate=rate, **loop))
    report: dict[str, Any] = json.loads((Path(folder) / "report.json").read_text("utf-8"))
    return report
