"""Paths to lines: which checker a path needs, what is printed, which exit code."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from huayu.checkpoints import pipelines
from huayu.errors import HuayuError
from huayu.evaluation.verify.cases import Case
from huayu.evaluation.verify.report import Check, Report
from huayu.runtime.language import say

# Kind of case → where it is checked. A new kind is one function and one line here.
KINDS = {
    "viscpm/lm_forward": "language:lm_forward",
    "viscpm/lm_incremental": "language:lm_incremental",
    "viscpm/beit3_queries": "vision:beit3_queries",
    "viscpm/vlu_forward": "vision:vlu_forward",
    "viscpm/preprocess": "vision:preprocess",
    "viscpm/generation": "generation:generation",
    "viscpm/position_bias": "tables:position_bias",
    "viscpm/tokenizer": "tables:tokenizer",
    "viscpm/paint_text": "painting:paint_text",
    "viscpm/unet_sampling": "painting:unet_sampling",
    "visualglm/lm_forward": "glm_language:lm_forward",
    "visualglm/incremental": "glm_language:incremental",
    "visualglm/vit": "glm_vision:vit",
    "visualglm/qformer": "glm_vision:qformer",
    "visualglm/full_hf": "glm_vision:full_hf",
    "visualglm/full_sat": "glm_vision:full_sat",
    "visualglm/image": "glm_vision:image",
    "visualglm/positions": "glm_tables:positions",
    "visualglm/rope": "glm_tables:rope",
    "visualglm/tokenizer": "glm_texts:tokenizer",
    "visualglm/prompts": "glm_texts:prompts",
    "visualglm/sampling": "glm_sampling:sampling",
    "visualglm/quant": "quantization:quant",
    "visualglm/lora": "glm_tuning:lora",
    "visualglm/ptuning_sat": "glm_tuning:ptuning_sat",
    "visualglm/ptuning_hf": "glm_tuning:ptuning_hf",
    "visualglm/ptuning_hf_proj": "glm_tuning:ptuning_hf",
    "visualglm/finetune": "glm_finetune:finetune",
}


def main(paths: Sequence[str], *, as_json: bool = False, out: TextIO | None = None) -> int:
    """Verify ``paths``; what is not a folder is ignored with a word. Returns 0 or 1 (1 when nothing was verified)."""
    out = out or sys.stdout
    results = []
    for name in paths:
        if not Path(name).is_dir():
            sys.stderr.write(say(f"{name}: not a folder, ignored\n", f"{name}：不是文件夹，已忽略\n"))
            continue
        results.append(verify(Path(name), None if as_json else out))
    if as_json:
        out.write(json.dumps(results, ensure_ascii=False, indent=1) + "\n")
    if not results:
        sys.stderr.write(say("nothing was verified\n", "没有可核对的内容\n"))
        return 1
    return 0 if all(result["ok"] for result in results) else 1


def verify(folder: Path, out: TextIO | None = None) -> dict[str, Any]:
    """Verify one folder, with lines to ``out``: path, kind, ok and checks. Never raises for what the folder holds."""

    def write(line: str) -> None:
        if out:
            out.write(line + "\n")
            out.flush()

    def emit(check: Check) -> None:
        write(str(check))

    report = Report(emit)
    kind, checker = _checker(folder, report)
    write(f"{folder}  ({kind})" if kind else str(folder))
    if checker is None:
        message = say(
            f"this kind is not known yet: {kind}; known are {', '.join(KINDS)}",
            f"尚不支持这一类：{kind}；支持的有 {', '.join(KINDS)}",
        )
        write(f"  {message}")
        return {"path": str(folder), "kind": kind, "ok": False, "checks": [], "message": message}
    _guarded(report, checker)
    failed = sum(check.ok is False for check in report.checks)
    count = sum(check.ok is not None for check in report.checks)
    verdict = "ok" if report.ok else "FAIL"
    write(say(f"  {count} checked, {failed} failed: {verdict}", f"  核对 {count} 项，{failed} 项不符：{verdict}"))
    checks = [check.to_json() for check in report.checks]
    return {"path": str(folder), "kind": kind, "ok": report.ok, "checks": checks}


Checker = Callable[[], None]


def _checker(folder: Path, report: Report) -> tuple[str, Checker | None]:
    """The kind of a folder, and what checks it (None: a kind of case that is not known)."""
    if (folder / pipelines.INDEX).is_file():
        return say("model folder", "模型文件夹"), lambda: _load("folder:model_folder")(folder, report)
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        kind = config.get("case") if isinstance(config, dict) else None
    except (OSError, ValueError):
        return "", lambda: report.fail("config.json", "missing or not JSON", "缺失或不是 JSON")
    if kind is None:
        return say("model folder", "模型文件夹"), lambda: _load("folder:model_folder")(folder, report)
    if kind not in KINDS:
        return str(kind), None
    return kind, lambda: _check_case(folder, report, _load(KINDS[kind]))


def _check_case(folder: Path, report: Report, check: Callable[[Case, Report], None]) -> None:
    case = Case(folder)
    check(case, report)
    for name in case.untaken:
        report.fail(name, "not part of this kind of case", "不属于这一类")


def _load(where: str) -> Any:
    module, name = where.split(":")
    return getattr(importlib.import_module(f"huayu.evaluation.verify.{module}"), name)


def _guarded(report: Report, check: Checker) -> None:
    """Whatever a broken case makes the code raise becomes a line."""
    try:
        check()
    except HuayuError as error:
        report.fail("…", error.en, error.zh)
    except Exception as error:
        text = f"{type(error).__name__}: {error}".split("\n")[0]
        report.fail("…", text, text)
