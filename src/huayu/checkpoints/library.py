"""Parts of other libraries from a folder: nothing from the network, no code of its own, no weight missing."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from huayu.errors import CheckpointError


def from_folder(class_name: str, folder: Path, module: str = "transformers") -> Any:
    """A model (float32, evaluation mode), a tokenizer or a processor. Raises CheckpointError that names the folder."""
    part: Any = getattr(importlib.import_module(module), class_name)
    is_model = hasattr(part, "save_pretrained") and hasattr(part, "eval")
    wishes: dict[str, Any] = {"output_loading_info": True, "dtype": "float32"} if is_model else {}
    try:
        opened = part.from_pretrained(folder, local_files_only=True, **wishes)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, AttributeError) as problem:
        first = str(problem).strip().split("\n")[0]
        raise CheckpointError(
            f"{folder} cannot be opened as {class_name}: {first}", f"无法以 {class_name} 打开 {folder}：{first}"
        ) from problem
    if not is_model:
        return opened
    model, report = opened
    for en, zh, key in (("missing", "缺少", "missing_keys"), ("of another shape", "形状不符", "mismatched_keys")):
        if names := sorted(map(str, report.get(key) or ())):
            raise CheckpointError(
                f"{folder} does not fit {class_name}: {len(names)} {en} ({names[0]}).",
                f"{folder} 与 {class_name} 不匹配：{zh} {len(names)} 个（{names[0]}）。",
            )
    return model.eval()
