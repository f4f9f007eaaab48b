"""Experiments that repeat what was published, on worlds small enough for a laptop."""

from __future__ import annotations

from pathlib import Path

from huayu.errors import ModelError
from huayu.runtime.language import say

EXPERIMENTS = {
    "transfer": (
        "Does sight learned from English pairs alone speak Chinese? (small: about an hour on 2 cores)",
        "只用英文图文对学会的“看”，会说中文吗？（small 约需 2 核 1 小时）",
    ),
}


def listing() -> str:
    """What there is, a line each."""
    return "\n".join(f"{name}: {say(en, zh)}" for name, (en, zh) in EXPERIMENTS.items())


def run(name: str, *, setting: str = "small", output: Path | None = None, seeds: int = 3, processes: int = 2) -> Path:
    """Run an experiment, or go on with it; the folder of its report.

    ``output``: default ``runs/experiments/NAME-SETTING``. Raises ModelError for an unknown experiment or setting.
    """
    if name not in EXPERIMENTS:
        known = ", ".join(EXPERIMENTS)
        raise ModelError(f"No experiment {name!r}; there are: {known}.", f"没有名为 {name!r} 的实验；现有：{known}。")
    from huayu.experiments.transfer import command

    return command.run(setting, output or Path("runs/experiments") / f"{name}-{setting}", seeds, processes=processes)
