"""``checksums.json`` of a model folder: SHA-256 and size of each of its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from huayu.checkpoints import atomic

FILE = "checksums.json"


@dataclass(frozen=True)
class Difference:
    """One file that is not what the list says."""

    name: str
    en: str
    zh: str


def sha256_of(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checksums(folder: str | Path, known: Mapping[str, str] | None = None) -> None:
    """List every file of ``folder`` and of the folders in it. ``known``: digests that were computed while writing."""
    folder, known = Path(folder), dict(known or {})
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != FILE)
    files = {
        name: {"sha256": known.get(name) or sha256_of(folder / name), "size": (folder / name).stat().st_size}
        for name in names
    }
    atomic.write_text(folder / FILE, json.dumps({"files": files}, indent=1, ensure_ascii=False) + "\n")


def differences(folder: str | Path) -> list[Difference] | None:
    """Files that are missing, of another size or of other bytes; None when the folder has no list."""
    folder = Path(folder)
    if not (folder / FILE).is_file():
        return None
    try:
        files = json.loads((folder / FILE).read_text("utf-8"))["files"]
        listed = [(str(name), int(entry["size"]), str(entry["sha256"])) for name, entry in files.items()]
    except (ValueError, KeyError, TypeError, AttributeError):
        return [Difference(FILE, "the list is damaged", "校验表已损坏")]
    found = (_difference(folder, *entry) for entry in listed)
    return [difference for difference in found if difference]


def _difference(folder: Path, name: str, size: int, digest: str) -> Difference | None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        return Difference(name, "missing", "缺失")
    actual = path.stat().st_size
    if actual != size:
        return Difference(name, f"{actual} bytes instead of {size}", f"{actual} 字节，应为 {size}")
    if sha256_of(path) != digest:
        return Difference(name, "its bytes differ (sha256)", "内容不同（sha256）")
    return None
