"""Copies of cases, changed in one place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from huayu.evaluation.verify.runner import verify

CASES = Path(__file__).parent / "cases"
NAMES = sorted(folder.name for folder in CASES.iterdir() if folder.is_dir())


def copy_of(name, target):
    folder = Path(target) / name
    shutil.copytree(CASES / name, folder)
    return folder


def failed(folder):
    """Names of the comparisons that fail; an empty set when all is well."""
    result = verify(folder)
    names = {check["name"] for check in result["checks"] if check["ok"] is False}
    assert result["ok"] is not bool(names)
    return names


def change_tensors(folder, choose, file="io.safetensors"):
    """Change one entry of every tensor that ``choose`` picks; returns their names."""
    tensors = load_file(folder / file)
    chosen = [name for name in tensors if choose(name) and tensors[name].numel()]
    for name in chosen:
        tensors[name] = changed(tensors[name])
    save_file(tensors, folder / file)
    return chosen


def changed(tensor):
    """The same tensor with its middle entry changed by little: by 1, or by more than any tolerance."""
    flat = tensor.clone().flatten()
    at = flat.numel() // 2
    flat[at] = flat[at] + 0.05 if tensor.dtype.is_floating_point else 1 - flat[at].clamp(0, 1)
    assert not torch.equal(flat, tensor.flatten())
    return flat.view(tensor.shape)


def change_json(folder, file, change):
    path = folder / file
    value = json.loads(path.read_text("utf-8"))
    change(value)
    path.write_text(json.dumps(value), "utf-8")


def change_line(folder, file, number, change):
    path = folder / file
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    change(lines[number])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
