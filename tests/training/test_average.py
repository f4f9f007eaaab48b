"""The mean of several trainings of one model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from huayu.training.average import WEIGHTS, average


def model(folder: Path, weight: torch.Tensor, steps: int, word: str) -> Path:
    folder.mkdir()
    save_file({"weight": weight, "steps": torch.tensor(steps)}, folder / WEIGHTS, {"format": "pt"})
    (folder / "config.json").write_text(word)
    return folder


def test_numbers_are_averaged_and_all_else_is_of_the_later_one(tmp_path: Path) -> None:
    before = model(tmp_path / "before", torch.tensor([1.0, 3.0]), 5, "old")
    after = model(tmp_path / "after", torch.tensor([2.0, -3.0], dtype=torch.float16), 9, "new")
    out = average([before, after], tmp_path / "out")
    tensors = load_file(out / WEIGHTS)
    assert tensors["weight"].dtype == torch.float16
    assert tensors["weight"].tolist() == [1.5, 0.0]
    assert tensors["steps"] == 9
    assert (out / "config.json").read_text() == "new"


def test_branches_count_alike(tmp_path: Path) -> None:
    models = [model(tmp_path / str(number), torch.tensor([number]), 0, "") for number in (0.0, 1.0, 5.0)]
    assert load_file(average(models, tmp_path / "out") / WEIGHTS)["weight"].tolist() == [2.0]


def test_another_model_is_refused_and_nothing_written(tmp_path: Path) -> None:
    before = model(tmp_path / "before", torch.ones(2), 5, "old")
    after = model(tmp_path / "after", torch.ones(3), 9, "new")
    with pytest.raises(ValueError, match="weight"):
        average([before, after], tmp_path / "out")
    assert not (tmp_path / "out").exists()
