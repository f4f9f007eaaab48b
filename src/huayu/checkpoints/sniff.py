"""What a file of weights is, judged by its bytes, and which files make up one model. Reads headers only; no torch."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from huayu.errors import CheckpointError

STATE_DICT_SUFFIXES = (".pt", ".bin", ".pth")
WEIGHT_SUFFIXES = (".safetensors", *STATE_DICT_SUFFIXES)
# Written by `huayu convert`: published tensors that our models do not use, kept so that the way back is complete.
DROPPED_FILE = "dropped.safetensors"
_HALF_SUFFIXES = (".incomplete", ".part", ".partial", ".crdownload", ".aria2", ".download")
_MAX_HEADER = 100_000_000  # the limit of the safetensors library itself


@dataclass(frozen=True)
class WeightFiles:
    """The files of one model; ``index`` maps a tensor's name to its file's name, empty when there is one file."""

    files: tuple[Path, ...]
    index: dict[str, str] = field(default_factory=dict)


def file_kind(path: Path) -> str:
    """``"safetensors"``, ``"zip"`` (torch.save since 1.6) or ``"legacy"`` (before); CheckpointError for all else."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(64)
    if size == 0:
        raise CheckpointError(f"{path} is empty (0 bytes).", f"{path} 是空文件（0 字节）。")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the weights: the download is not complete (try `git lfs pull`).",
            f"{path} 只是 Git LFS 指针而不是权重：下载不完整（可运行 `git lfs pull`）。",
        )
    if start.startswith(b"PK\x03\x04"):
        return _checked_zip(path)
    if start[:1] == b"\x80":
        return "legacy"
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        safetensors_header(path)
        return "safetensors"
    raise CheckpointError(
        f"{path} is not a file of weights: it starts with {start[:8]!r}; safetensors and torch.save files are.",
        f"{path} 不是权重文件：开头是 {start[:8]!r}；可接受 safetensors 与 torch.save 的文件。",
    )


def _checked_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise CheckpointError(
            f"{path} is cut short or damaged (its table of contents is missing): download it again.",
            f"{path} 不完整或已损坏（缺少目录区）：请重新下载。",
        ) from error
    names = {Path(entry.filename).name for entry in entries}
    if "data.pkl" not in names or "constants.pkl" in names:
        raise CheckpointError(
            f"{path} is a zip file, but not one that torch.save wrote for weights.",
            f"{path} 是 zip 文件，但不是 torch.save 保存的权重。",
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(
            f"{path} was zipped again with compression; weights must be stored plainly.",
            f"{path} 被再次压缩过；权重须以不压缩的方式存放。",
        )
    return "zip"


def safetensors_header(path: Path) -> dict[str, dict]:
    """The header: name → ``{"dtype", "shape", "data_offsets"}``. CheckpointError if the file is shorter than that."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        raw = file.read(length) if length <= min(_MAX_HEADER, size) else b""
    try:
        header = json.loads(raw)
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        expected = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file, or its beginning is damaged.",
            f"{path} 不是 safetensors 文件，或开头已损坏。",
        ) from error
    if size < expected:
        raise CheckpointError(
            f"{path} is half a download: {size} of {expected} bytes are there.",
            f"{path} 没有下载完：只有 {size} / {expected} 字节。",
        )
    return tensors


def unfinished(folder: Path) -> list[str]:
    """Names of files in ``folder`` that a download tool has begun and not finished."""
    hidden = folder.glob(".cache/huggingface/download/*.incomplete")
    return sorted(p.name for p in (*folder.iterdir(), *hidden) if p.name.endswith(_HALF_SUFFIXES))


def weight_files(folder: Path) -> WeightFiles:
    """Which files of ``folder`` hold its weights: an index with its shards, else the one file there is.

    Raises CheckpointError when there are none, when several could be meant, or when something is missing of them.
    """
    weights = _weight_files(folder)
    for path in weights.files:
        if path.with_name(path.name + ".aria2").exists():  # aria2 gives its final name to a file from the start
            raise CheckpointError(f"{path} is half a download.", f"{path} 没有下载完。")
    return weights


def _weight_files(folder: Path) -> WeightFiles:
    for index_name, single in (
        ("model.safetensors.index.json", "model.safetensors"),
        ("pytorch_model.bin.index.json", "pytorch_model.bin"),
        ("diffusion_pytorch_model.safetensors.index.json", "diffusion_pytorch_model.safetensors"),
    ):
        if (folder / index_name).is_file():
            return _indexed(folder, index_name)
        if (folder / single).is_file():
            return WeightFiles((folder / single,))
    for suffixes in ((".safetensors",), STATE_DICT_SUFFIXES):
        found = sorted(p for p in folder.iterdir() if p.suffix in suffixes and p.name != DROPPED_FILE)
        if len(found) == 1:
            return WeightFiles((found[0],))
        if found:
            names = ", ".join(p.name for p in found)
            raise CheckpointError(
                f"{folder} holds several files of weights ({names}): name the one you mean.",
                f"{folder} 中有多个权重文件（{names}）：请指明其中一个。",
            )
    if half := unfinished(folder):
        raise CheckpointError(
            f"{folder} is half a download: {half[0]} is not finished.", f"{folder} 没有下载完：{half[0]} 未完成。"
        )
    raise CheckpointError(
        f"{folder} holds no weights (*.safetensors, *.pt, *.bin).",
        f"{folder} 中没有权重（*.safetensors、*.pt、*.bin）。",
    )


def _indexed(folder: Path, index_name: str) -> WeightFiles:
    try:
        index = dict(json.loads((folder / index_name).read_text("utf-8"))["weight_map"])
        names = sorted(set(index.values()))
        plain = all(Path(name).name == name for name in names)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / index_name} is damaged.", f"{folder / index_name} 已损坏。") from error
    if not plain:
        raise CheckpointError(
            f"{folder / index_name} names files outside its folder.", f"{folder / index_name} 指向了文件夹之外的文件。"
        )
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} is half a download: {missing[0]} is missing ({len(missing)} of {len(names)} shards).",
            f"{folder} 没有下载完：缺少 {missing[0]}（{len(names)} 个分片缺 {len(missing)} 个）。",
        )
    return WeightFiles(tuple(folder / name for name in names), index)
