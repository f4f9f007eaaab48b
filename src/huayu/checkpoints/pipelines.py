"""Folders of diffusers: a ``model_index.json`` that names the parts, each part in a folder of its own. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from huayu.errors import CheckpointError

INDEX = "model_index.json"
_TEXT_SUFFIXES = (".json", ".txt", ".model")
# A variant has a word more: diffusion_pytorch_model.fp16.safetensors; it is left on the hub.
_SHARD = re.compile(r"-\d+-of-\d+")
_WEIGHTS = re.compile(r"(diffusion_pytorch_model|model|pytorch_model)(-\d+-of-\d+)?\.(safetensors|bin)")


def choose(listing: Sequence[str]) -> list[str]:
    """Of a repository's files those of the pipeline: the small texts, and each part's weights in one format."""
    wanted = {name for name in listing if name.endswith(_TEXT_SUFFIXES) and name.count("/") <= 1}
    for part in {name.partition("/")[0] for name in listing if name.count("/") == 1}:
        files = [name for name in listing if name.startswith(f"{part}/") and _WEIGHTS.fullmatch(name[len(part) + 1 :])]
        safe = [name for name in files if name.endswith(".safetensors")]
        shards = {f"{re.sub(_SHARD, '', name)}.index.json" for name in safe or files}
        wanted -= {name for name in wanted if name.startswith(f"{part}/") and name.endswith(".index.json")} - shards
        wanted.update(safe or files)
    return sorted(wanted)


def class_of(folder: Path) -> str:
    """The pipeline's class as ``model_index.json`` says. CheckpointError when that is damaged."""
    return str(index(folder).get("_class_name", ""))


def missing(folder: Path) -> str | None:
    """The first part that is not there, or shard of a part; None when all are. CheckpointError as :func:`class_of`."""
    for part, kind in index(folder).items():
        if part.startswith("_") or not isinstance(kind, list) or not all(kind):
            continue
        if not (folder / part).is_dir() or not any((folder / part).iterdir()):
            return part
        for listed in (folder / part).glob("*.index.json"):
            shards = set(json.loads(listed.read_text("utf-8"))["weight_map"].values())
            if absent := sorted(name for name in shards if not (folder / part / Path(name).name).is_file()):
                return f"{part}/{absent[0]}"
    return None


def require_complete(folder: Path) -> None:
    """Raises CheckpointError naming what is not there."""
    if (name := missing(folder)) is not None:
        raise CheckpointError(f"{folder} is half a download: {name} is missing.", f"{folder} 没有下载完：缺少 {name}。")


def index(folder: Path) -> dict:
    """The contents of ``model_index.json``. CheckpointError when it is damaged."""
    try:
        content = json.loads((folder / INDEX).read_text("utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise CheckpointError(f"{folder / INDEX} is damaged.", f"{folder / INDEX} 已损坏。")
    return content
