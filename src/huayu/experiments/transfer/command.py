"""``huayu experiment transfer``: do what is not done, gather it, and write the results and both reports."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from huayu.checkpoints.atomic import write_text
from huayu.data import pictograms
from huayu.experiments.transfer import plots, report, statistics
from huayu.experiments.transfer.arms import ARMS
from huayu.experiments.transfer.run import run as do
from huayu.experiments.transfer.settings import setting_of
from huayu.runtime.language import say


def run(name: str, folder: Path, seeds: int, *, cache: Path | None = None, processes: int = 2) -> Path:
    """Run a setting, or go on with it; returns the folder of the report, ``folder/report``."""
    setting = setting_of(name)
    results = do(setting, folder, seeds, cache=cache or pictograms.DEFAULT_CACHE, processes=processes)
    return write(gathered(results, asdict(setting), seeds), folder / "report")


def gathered(results: dict[str, dict[str, Any]], setting: dict[str, Any], seeds: int) -> dict[str, Any]:
    """All results as one tree: what was asked, what was found for each seed, means, intervals and verdicts."""
    found = {
        "experiment": "transfer",
        "setting": setting,
        "seeds": seeds,
        "data": {one.key: asdict(one) for one in ARMS},
        "sight": results["eye"]["sight"],
        "core_minutes": sum(result["cpu_minutes"] for result in results.values()),
        **statistics.collect(results, seeds),
    }
    return {**found, "verdicts": statistics.verdicts(found, setting["things"])}


def write(found: dict[str, Any], folder: Path) -> Path:
    """``transfer.json``, and the page with its picture in each language, as they lie in docs/."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rounded = json.dumps(_rounded(found), ensure_ascii=False, separators=(",", ":"))
    write_text(folder / "transfer.json", rounded.replace('"seeds":{', '\n"seeds":{') + "\n")
    for language, ending in (("en", ""), ("zh", ".zh")):
        picture = f"images/transfer{ending}.png"
        plots.draw(found, folder / picture, language)
        write_text(folder / f"transfer{ending}.md", report.text(found, language, picture))
    Console().print(say("The report: ", "报告："), str(folder / say("transfer.md", "transfer.zh.md")))
    return folder


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
