"""Files and folders that are either whole or not there: written aside, flushed to the disk, renamed."""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from huayu.errors import CheckpointError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_turn = count()


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a path beside ``path`` to write a file or a folder to; it takes the place of ``path`` when the block ends.

    When the block raises, what was written is removed and ``path`` stays as it was. A folder takes the place of an
    empty folder or of nothing; of a folder with something in it never (CheckpointError, before any work). A full disk
    becomes a CheckpointError.
    """
    path = Path(path)
    if path.is_dir() and any(path.iterdir()):
        raise CheckpointError(f"{path} exists and is not empty.", f"{path} 已存在且不是空文件夹。")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{next(_turn)}.partial")
    try:
        yield aside
        _flush_tree(aside)
        if path.is_dir() and aside.is_dir():
            path.rmdir()
        aside.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        remove(aside)
        if error.errno not in _NO_ROOM:
            raise
        raise CheckpointError(f"The disk is full: {path} was not written.", f"磁盘已满：{path} 没有写成。") from error
    except BaseException:
        remove(aside)
        raise


def write_bytes(path: str | Path, data: bytes) -> None:
    """Replace the file at ``path`` by ``data``, all or nothing."""
    with replacing(path) as aside:
        aside.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Replace the file at ``path`` by ``text`` in UTF-8, all or nothing."""
    write_bytes(path, text.encode("utf-8"))


def require_space(path: str | Path, size: int) -> None:
    """CheckpointError when the disk that ``path`` will lie on has fewer than ``size`` bytes left."""
    folder = Path(path).absolute().parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < size:
        need, have = f"{size / 1e9:.1f} GB", f"{free / 1e9:.1f} GB"
        raise CheckpointError(
            f"{path} needs {need}, but only {have} are free on that disk.",
            f"{path} 需要 {need}，而磁盘只剩 {have}。",
        )


def remove(path: Path) -> None:
    """Remove a file or a folder with all in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove what processes of this machine that are gone have left beside ``path``."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*-*.partial"):
        pid = left.name.removesuffix(".partial").rpartition(".")[2].partition("-")[0]
        if pid.isdecimal() and not _alive(int(pid)):
            remove(left)


def _alive(pid: int) -> bool:
    if os.name == "nt":  # signal 0 would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _flush_tree(path: Path) -> None:
    if path.is_dir():
        for child in path.iterdir():
            _flush_tree(child)
        _flush_folder(path)
    else:
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
