"""Writing a model as its publishers do: one file, the shards of Hugging Face, or a sat folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from huayu.checkpoints import lora, sat, writer
from huayu.checkpoints.find import families
from huayu.checkpoints.keymap import KeyMap
from huayu.checkpoints.opening import Blueprint
from huayu.checkpoints.ranks import open_sat
from huayu.checkpoints.reader import LazyTensors, open_tensors
from huayu.checkpoints.recast import put_together, taken_apart
from huayu.checkpoints.report import KeyReport
from huayu.checkpoints.vocabulary import find_named
from huayu.errors import CheckpointError

# The published json of sizes, kept in our folder so that the way back writes the same again.
KEPT_SETTINGS = "published_config.json"
_INDEX = "pytorch_model.bin.index.json"
Pairs = Sequence[tuple[LazyTensors, writer.Item]]


def of(family: str) -> tuple[str, ...]:
    """Folders in a published format that models of a family can be written to."""
    return ("hf", "sat") if hasattr(_published(family), "settings_of") else ()


def as_published(plan: Blueprint, report: KeyReport, form: str) -> tuple[LazyTensors, KeyMap]:
    """The plan's tensors under their published names in one format (``"file"``: Hugging Face's), and its map.

    Raises CheckpointError for a tensor of ours that has no published name, and for packed weights to sat, whose code
    packs what it has loaded.
    """
    if form == "sat" and any(name.endswith(".weight_scale") for name in report.loaded):
        raise CheckpointError("A sat folder holds no quantised weights.", "sat 文件夹不能存放量化后的权重。")
    published: Any = _published(plan.family)
    if hasattr(published, "keymap"):
        keymap: KeyMap = published.keymap(plan.model.config, sat=form == "sat")
    else:
        keymap = import_module(f"{families()[plan.family]}.checkpoint").KEYMAP
    entries = {ours: plan.tensors.entries[key] for ours, key in report.loaded.items()}
    return put_together(LazyTensors(entries, plan.tensors.files, plan.tensors.mapped), keymap), keymap


def write(path: Path, plan: Blueprint, pairs: Pairs, form: str, max_shard_size: int, progress: writer.Progress) -> None:
    """Write the file or folder ``path``; ``pairs`` are tensors with their published names."""
    if form == "file":
        writer.write_state_dict(path, pairs, progress)
        return
    path.mkdir()
    if form == "sat":
        (path / "1").mkdir()
        writer.write_state_dict(path / "1" / "mp_rank_00_model_states.pt", pairs, progress, sat.WRAPPER)
        (path / sat.LATEST).write_text("1", "utf-8")
        (path / sat.SETTINGS).write_text(sat.settings_text(_settings(plan, to_sat=True)), "utf-8")
        return
    _write_shards(path, pairs, max_shard_size, progress)
    (path / "config.json").write_text(json.dumps(_settings(plan, to_sat=False), indent=2) + "\n", "utf-8")


def write_vocabulary(path: Path, plan: Blueprint, vocab: str | Path | None) -> None:
    """The tokenizer's file beside the weights: ``vocab``, else the source's if it has one. Raises CheckpointError."""
    name = _published(plan.family).VOCABULARY
    if vocab is not None or (plan.source.folder / name).is_file():
        shutil.copyfile(find_named(plan.source.folder, name, vocab), path / name)


def keep_settings(folder: Path, plan: Blueprint) -> None:
    """Leave the source's json of sizes in our folder."""
    if plan.settings and of(plan.family):
        text = json.dumps(plan.settings, indent=2, ensure_ascii=False) + "\n"
        (folder / KEPT_SETTINGS).write_text(text, "utf-8")


def without_lora(plan: Blueprint) -> tuple[Blueprint, dict[str, lora.Lora]]:
    """The plan of the model before its fine-tuning, and our module name → pairs. Raises CheckpointError."""
    path = plan.source.path
    if sat.is_sat(path) and len(sat.rank_files(path)) > 1:
        raise CheckpointError(
            f"{path} ran in parallel: each rank has LoRA pairs of its own, which can only be merged.",
            f"{path} 是并行训练的：每个分片有各自的 LoRA 矩阵，只能合并。",
        )
    base, found = lora.split(open_sat(path) if sat.is_sat(path) else open_tensors(path))
    if not found or plan.keymap is None:
        raise CheckpointError(f"{path} has no LoRA pairs.", f"{path} 中没有 LoRA 矩阵。")
    names = {linear: str(plan.keymap.to_ours(f"{linear}.weight")).removesuffix(".weight") for linear in found}
    plan = replace(plan, tensors=taken_apart(base, plan.keymap))
    return plan, {names[linear]: pairs for linear, pairs in found.items()}


def _settings(plan: Blueprint, *, to_sat: bool) -> dict[str, Any]:
    """The published json: the one that was kept, if it is of this format; else made from our configuration."""
    kept = plan.settings
    path = plan.source.folder / KEPT_SETTINGS
    if kept is None and path.is_file():
        kept = json.loads(path.read_text("utf-8"))
    if kept and ("eva_args" in kept) is to_sat:
        config: Any = plan.model.config
        bits = config.quantization_bit
        return {**kept, **({"model_parallel_size": 1} if to_sat else {"quantization_bit": bits} if bits else {})}
    made: dict[str, Any] = _published(plan.family).settings_of(plan.model.config, sat=to_sat)
    return made


def _write_shards(folder: Path, pairs: Pairs, max_shard_size: int, progress: writer.Progress) -> None:
    where = {item.name: part for part, item in pairs}
    shards = writer.shards_of([item for _, item in pairs], max_shard_size)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"pytorch_model-{number:05d}-of-{len(shards):05d}.bin"
        writer.write_state_dict(folder / name, [(where[item.name], item) for item in shard], progress)
        weight_map.update(dict.fromkeys((item.name for item in shard), name))
    index = {"metadata": {"total_size": sum(item.nbytes for _, item in pairs)}, "weight_map": weight_map}
    (folder / _INDEX).write_text(json.dumps(index, indent=1) + "\n", "utf-8")


def _published(family: str) -> Any:
    return import_module(f"{families()[family]}.published")
