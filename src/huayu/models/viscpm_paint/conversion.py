"""The published flat file ⇄ a folder of the pipeline."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from huayu.checkpoints import atomic, checksums, sniff, writer
from huayu.checkpoints.find import Source
from huayu.checkpoints.reader import open_tensors
from huayu.checkpoints.report import KeyReport
from huayu.errors import CheckpointError
from huayu.models.viscpm_paint.checkpoint import KEYMAP
from huayu.models.viscpm_paint.opening import account_parts, open_pipeline

Progress = Callable[[int, int], None]
Notes = tuple[tuple[str, str], ...]
_PARTS = ("text_encoder", "conditioning_head", "unet")
_KEPT = ("LICENSE", "LICENCE", "NOTICE", "README")
_NO_VAE = (
    "The published file holds no VAE: keep that of the folder beside it as vae/.",
    "发布格式的文件不含 VAE：请把文件夹中的 vae/ 放在它旁边。",
)


def convert(
    source: Source,
    dst: Path,
    dtype: torch.dtype | None,
    max_shard_size: int,
    vocab: str | Path | None,
    progress: Progress | None,
) -> tuple[KeyReport, int, Notes]:
    """Write ``source`` to ``dst``, a ``.pt``/``.bin``/``.pth`` file or a folder: (account of keys, bytes, notes).

    Errors as :func:`huayu.checkpoints.convert.convert`; also when a pipeline does not fit the published format.
    """
    report = account_parts(source)
    report.require(str(source.path))
    if dst.suffix in sniff.STATE_DICT_SUFFIXES:
        if (source.path / "canvas").is_dir():
            raise CheckpointError(
                "The published format cannot hold this model: it has a canvas.",
                "发布格式无法容纳该模型：它带有 canvas。",
            )
        return report, _to_file(source.path, dst, dtype, progress), (_NO_VAE,)
    pipeline = open_pipeline(source, dtype, vocab=vocab, mmap=True, progress=progress)
    with atomic.replacing(dst) as aside:
        aside.mkdir()
        pipeline.save_pretrained(aside, max_shard_size=max_shard_size)
        for path in sorted(source.folder.iterdir()):
            if path.is_file() and path.name.upper().startswith(_KEPT):
                shutil.copyfile(path, aside / path.name)
        checksums.write_checksums(aside)
    return report, sum(path.stat().st_size for path in dst.rglob("*.safetensors")), ()


def _to_file(folder: Path, dst: Path, dtype: torch.dtype | None, progress: Progress | None) -> int:
    pairs = []
    for part in _PARTS:
        tensors = open_tensors(folder / part)
        names = {str(KEYMAP.to_published(f"{part}.{key}")): key for key in tensors}
        pairs += [(tensors, item) for item in writer.items(tensors, names, dtype)]
    total, done = sum(item.nbytes for _, item in pairs), 0
    atomic.require_space(dst, 2 * total if dtype else total)

    def told(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        if progress:
            progress(done, total)

    with atomic.replacing(dst) as aside:
        writer.write_state_dict(aside, pairs, told)
    return total
