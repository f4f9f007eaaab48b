"""What the Hugging Face ``datasets`` library keeps in a folder: a data set saved by it, or a folder that it opens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from huayu.data.pictures import Held, read_bytes
from huayu.data.rows import PICTURE_FIELDS, TEXT_FIELDS
from huayu.data.shards import picture_bytes
from huayu.data.tables import Table
from huayu.errors import ModelError
from huayu.runtime.packages import require


@dataclass(frozen=True)
class InDataset(Held):
    """A picture in a column of row ``row`` of a data set."""

    folder: Path
    row: int
    column: str
    name: str

    def read(self) -> bytes:
        value = _opened(str(self.folder)).select_columns([self.column])[self.row][self.column]
        if isinstance(value, dict) and not value.get("bytes"):
            return read_bytes(value.get("path") or "", allow_url=False)
        return picture_bytes(value["bytes"] if isinstance(value, dict) else value)


class HfTable(Table):
    """Rows of a data set; of several splits those of ``train``. Needs the extra ``data``. Raises ModelError."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.data = _opened(str(path))
        names = self.data.column_names
        self.texts = [name for name in names if name in TEXT_FIELDS]
        self.held: str | None = None
        for name in (name for name in PICTURE_FIELDS if name in names):
            if getattr(self.data.features[name], "dtype", "") == "string":
                self.texts.append(name)
            else:
                self.held = name
            break
        self.said = self.data.select_columns(self.texts)

    def __len__(self) -> int:
        return len(self.data)

    def item(self, place: int) -> tuple[int, Any]:
        row = dict(self.said[place]) if self.texts else {}
        if self.held:
            row[self.held] = InDataset(self.path, place, self.held, f"{self.path.name}-{place:06}")
        return place + 1, row


@lru_cache(maxsize=4)
def _opened(folder: str) -> Any:
    """The data set with its pictures undecoded. Raises ModelError."""
    require("datasets", "data")
    import datasets

    saved = any((Path(folder) / name).is_file() for name in ("state.json", "dataset_dict.json"))
    try:
        found = datasets.load_from_disk(folder) if saved else datasets.load_dataset(folder)
    except Exception as problem:  # its builders fail in ways of their own
        raise ModelError(f"{folder} is no data set: {problem}.", f"{folder} 不是数据集：{problem}。") from problem
    if isinstance(found, dict):
        if "train" not in found and len(found) != 1:
            names = ", ".join(found)
            raise ModelError(f"{folder} has {names}: name one.", f"{folder} 中有 {names}：请指定其一。")
        found = found["train"] if "train" in found else next(iter(found.values()))
    for name, feature in found.features.items():
        if isinstance(feature, datasets.Image):
            found = found.cast_column(name, datasets.Image(decode=False))
    return found
