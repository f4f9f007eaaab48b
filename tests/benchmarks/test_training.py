"""The training benchmarks run at tiny sizes; what they count is what was done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import run, table, training
from benchmarks.gpu import training_10b
from benchmarks.gpu.setting import fill
from huayu.runtime.packages import is_installed

METHODS = [m for m in training.METHODS if m != "qlora" or is_installed("bitsandbytes")]


@pytest.mark.parametrize("family", training.FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_a_case(tmp_path: Path, family: str, method: str) -> None:
    found = training.measure(family, method, training.TINY)
    name = f"train_{family}_{method}"
    assert found[f"{name}_plain_ratio"] > 0
    assert found[f"{name}_tokens_per_second"] == pytest.approx(40 * found[f"{name}_samples_per_second"], rel=0.01)
    assert found[f"{name}_samples_per_second"] == pytest.approx(2e3 / found[f"{name}_ms"], rel=0.01)
    file, page = tmp_path / "figures.json", tmp_path / "page.md"
    file.write_text(json.dumps({**run.environment(), **found}), "utf-8")
    page.write_text(table.BEGIN + table.END, "utf-8")
    table.main([str(file), str(page)])
    assert f"| {found[f'{name}_ms']} | {found[f'{name}_samples_per_second']} |" in page.read_text("utf-8")


def test_both_loops_learn_the_same() -> None:
    """As many steps by hand and by the package learn as much, so the work compared is the same."""
    ours, batch = training.prepared("glm", "full", training.TINY)
    theirs, again = training.prepared("glm", "full", training.TINY)
    assert all(torch.equal(batch[name], again[name]) for name in batch)

    def loss(model: Any) -> float:
        with torch.no_grad():
            return float(model.eval()(**batch).loss)

    first = loss(theirs)
    stage = training.OneBatch(ours, batch, training.step_by_hand(theirs, batch))
    taken = training.by_package(stage, 8, device="cpu", warmup=1, cooldown=0.0)
    assert len(taken.wall) == 8
    learnt = first - loss(theirs)
    assert learnt > 0.005
    assert first - loss(ours) == pytest.approx(learnt, rel=0.1)


def test_gpu_script_on_the_cpu(tmp_path: Path) -> None:
    found = training_10b.main(["--tiny", "--out", str(tmp_path)])
    assert json.loads((tmp_path / "training_10b.json").read_text("utf-8")) == found
    for family in training.FAMILIES:
        for method in METHODS[1:]:
            seconds = found[f"{family}_{method}_step_seconds_b2"]
            assert found[f"{family}_{method}_plain_ratio_b2"] > 0
            assert found[f"{family}_{method}_tokens_per_second_b2"] == pytest.approx(80 / seconds, rel=0.01)


@pytest.mark.parametrize("family", training.FAMILIES)
def test_operations_are_those_that_torch_counts(family: str) -> None:
    """But for what LoRA itself and a tiny eye's attention add, and the few that need no gradient at the start."""
    sizes = getattr(training.LARGE, family)
    config: Any = training.config_of(family, sizes)
    with torch.device("meta"):
        model = training.class_of(family)(config)
    numbers = training_10b._numbers(model, config)
    assert sum(numbers) < sum(parameter.numel() for parameter in model.parameters()) + numbers[0] / 2
    model = fill(model, torch.device("cpu")).float()
    learning = model.requires_grad_(False).language_model.model.layers[0]
    next(parameter for parameter in learning.parameters() if parameter.ndim == 1).requires_grad_(True)
    batch = training.batch_of(config, 1, 64)
    with FlopCounterMode(display=False) as counted:
        model(**batch, use_cache=False).loss.backward()
    stated = training_10b.operations(config, 1, 64, *numbers)
    assert counted.get_total_flops() == pytest.approx(stated, rel=0.05)
