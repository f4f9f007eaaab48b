"""The mean of a model and of what it became by more training: ``python -m huayu.training.average BEFORE AFTER OUT``.

It often keeps most of what each knows better than the other. Folders with ``model.safetensors``; all else that ``OUT``
gets is that of ``AFTER``.

Source: Wortsman et al., Robust fine-tuning of zero-shot models, 2022, arXiv:2109.01903
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"


def average(before: Path, after: Path, out: Path) -> Path:
    """Write the mean of both into ``out`` in the dtypes of ``after``; whole numbers are those of ``after``.

    Raises ValueError where a tensor is missing in one of them or has another shape, FileExistsError if ``out`` exists.
    """
    first, second = load_file(before / WEIGHTS), load_file(after / WEIGHTS)
    different = first.keys() ^ second.keys() or {k for k, v in second.items() if v.shape != first[k].shape}
    if different:
        raise ValueError(f"not the same model: {', '.join(sorted(different)[:3])} differ")
    with safe_open(after / WEIGHTS, "pt") as file:
        metadata = file.metadata()
    shutil.copytree(after, out)
    mean = {name: _mean(first[name], value) for name, value in second.items()}
    save_file(mean, out / WEIGHTS, metadata)
    return out


def _mean(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    return ((before.double() + after.double()) / 2).to(after.dtype) if after.is_floating_point() else after


if __name__ == "__main__":
    print(average(*map(Path, sys.argv[1:4])))
