"""The mean of several trainings of one model: ``python -m huayu.training.average OUT MODEL MODEL…``.

The models share their beginning: one before and after more training, or branches of it with other seeds. Their mean
often keeps most of what each knows better than the others. Folders with ``model.safetensors``; all else that ``OUT``
gets is that of the last model.

Source: Wortsman et al., Model soups, 2022, arXiv:2203.05482; Robust fine-tuning of zero-shot models, arXiv:2109.01903
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"


def average(models: Sequence[Path], out: Path) -> Path:
    """Write the mean of all into ``out`` in the dtypes of the last one; whole numbers are those of the last one.

    Raises ValueError where a tensor is missing in one of them or has another shape, FileExistsError if ``out`` exists.
    """
    tensors = [load_file(model / WEIGHTS) for model in models]
    shapes = [{(name, value.shape) for name, value in one.items()} for one in tensors]
    different = set.union(*shapes) - set.intersection(*shapes)
    if different:
        raise ValueError(f"not the same model: {', '.join(sorted({name for name, _ in different})[:3])} differ")
    with safe_open(models[-1] / WEIGHTS, "pt") as file:
        metadata = file.metadata()
    shutil.copytree(models[-1], out)
    save_file({name: _mean([one[name] for one in tensors]) for name in tensors[-1]}, out / WEIGHTS, metadata)
    return out


def _mean(values: list[torch.Tensor]) -> torch.Tensor:
    last = values[-1]
    if not last.is_floating_point():
        return last
    return torch.stack([value.double() for value in values]).mean(0).to(last.dtype)


if __name__ == "__main__":
    print(average([Path(model) for model in sys.argv[2:]], Path(sys.argv[1])))
