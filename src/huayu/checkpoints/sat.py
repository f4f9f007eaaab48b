"""Folders of SwissArmyTransformer: ``model_config.json``, ``latest`` and ``<iteration>/mp_rank_0k_model_states.pt``.

Where things lie; :mod:`.ranks` reads them. No torch. Source: spec visualglm §1, 9.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huayu.errors import CheckpointError

SETTINGS, LATEST, WRAPPER = "model_config.json", "latest", "module"
_RANK_FILE = re.compile(r"mp_rank_(\d+)_model_states\.pt")


def is_sat(folder: Path) -> bool:
    """Whether the folder is one of sat's."""
    return (folder / LATEST).is_file() and (folder / SETTINGS).is_file()


def in_home(name: str) -> Path | None:
    """The folder called ``name`` below SAT_HOME, if there is one."""
    home = os.environ.get("SAT_HOME")
    folder = Path(home).expanduser() / name if home and name and Path(name).name == name else None
    return folder if folder and is_sat(folder) else None


def read_settings(folder: Path) -> dict[str, Any]:
    """``model_config.json``. Raises CheckpointError."""
    try:
        settings = json.loads((folder / SETTINGS).read_text("utf-8"))
    except (OSError, ValueError):
        settings = None
    if not isinstance(settings, dict):
        raise CheckpointError(f"{folder / SETTINGS} is damaged.", f"{folder / SETTINGS} 已损坏。")
    return settings


def rank_files(folder: Path) -> list[Path]:
    """Files of the iteration that ``latest`` names, rank 0 first. Raises CheckpointError."""
    iteration = (folder / LATEST).read_text("utf-8", errors="replace").strip()
    if not re.fullmatch(r"\w+", iteration):
        raise CheckpointError(f"{folder / LATEST} names no iteration.", f"{folder / LATEST} 没有给出迭代编号。")
    found = {int(m[1]): path for path in folder.glob(f"{iteration}/*.pt") if (m := _RANK_FILE.fullmatch(path.name))}
    wanted = max([*found, read_settings(folder).get("model_parallel_size", 1) - 1, 0]) + 1
    for rank in range(wanted):
        if rank not in found:
            name = f"{iteration}/mp_rank_{rank:02d}_model_states.pt"
            raise CheckpointError(f"{folder} lacks {name}.", f"{folder} 缺少 {name}。")
    return [found[rank] for rank in range(wanted)]


def settings_text(settings: Mapping[str, Any]) -> str:
    """``model_config.json`` as it is written."""
    return json.dumps(settings, indent=4) + "\n"
