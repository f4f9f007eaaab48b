"""Whole or not there."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from huayu.checkpoints import atomic, checksums
from huayu.errors import CheckpointError


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    atomic.write_text(path, "一")
    atomic.write_text(path, "二")
    assert path.read_text("utf-8") == "二"
    assert _names(path.parent) == ["a.json"]


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        _write_half(path, KeyboardInterrupt())
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["a"]


def _write_half(path: Path, error: BaseException) -> None:
    with atomic.replacing(path) as aside:
        aside.mkdir()
        (aside / "x").write_text("half")
        raise error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_said(tmp_path: Path, number: int) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(CheckpointError, match="disk is full"):
        _write_half(path, OSError(number, "full"))
    assert _names(tmp_path) == ["a"]
    assert path.read_text() == "old"


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), atomic.replacing(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "no")


def test_a_folder_takes_the_place_of_nothing_or_of_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new"):
        with atomic.replacing(tmp_path / name) as aside:
            aside.mkdir()
            (aside / "x").write_text("y")
        assert _names(tmp_path / name) == ["x"]
    with pytest.raises(CheckpointError, match="not empty"), atomic.replacing(tmp_path / "new"):
        raise AssertionError("the block must not be entered")
    assert _names(tmp_path) == ["empty", "new"]


_KILLED = """
import os, signal, sys
from pathlib import Path
from huayu.checkpoints import atomic
with atomic.replacing(Path(sys.argv[1])) as aside:
    aside.mkdir()
    (aside / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_a_killed_writer_leaves_nothing_for_long(tmp_path: Path) -> None:
    target = tmp_path / "m[1]"
    done = subprocess.run([sys.executable, "-c", _KILLED, str(target)], env=_environment(), check=False)
    assert done.returncode == -9
    assert not target.exists()
    assert len(_names(tmp_path)) == 1
    mine = tmp_path / f".m[1].{os.getpid()}-99999.partial"
    mine.write_text("of a process that lives")
    atomic.write_text(target, "whole")
    assert _names(tmp_path) == sorted([target.name, mine.name])


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_room_is_asked_for_before_the_work(tmp_path: Path) -> None:
    atomic.require_space(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(CheckpointError, match=r"needs [\d.]+ GB, but only"):
        atomic.require_space(tmp_path / "a", shutil.disk_usage(tmp_path).free + 10**12)


def test_checksums_tell_what_changed(tmp_path: Path) -> None:
    assert checksums.differences(tmp_path) is None
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).write_text("same")
    checksums.write_checksums(tmp_path, {"a": checksums.sha256_of(tmp_path / "a")})
    assert checksums.differences(tmp_path) == []
    (tmp_path / "b").write_text("longer")
    (tmp_path / "c").write_text("sane")
    (tmp_path / "d").unlink()
    found = {entry.name: entry.en for entry in checksums.differences(tmp_path) or ()}
    assert found == {"b": "6 bytes instead of 4", "c": "its bytes differ (sha256)", "d": "missing"}


@pytest.mark.parametrize("text", ["", "[]", '{"files": [1]}', '{"files": {"a": 1}}', '{"files": {"a": {"size": "x"}}}'])
def test_a_damaged_list_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / checksums.FILE).write_text(text)
    assert [entry.en for entry in checksums.differences(tmp_path) or ()] == ["the list is damaged"]


def test_a_list_stays_in_its_folder(tmp_path: Path) -> None:
    inside = tmp_path / "m"
    inside.mkdir()
    (tmp_path / "x").write_text("")
    digest = checksums.sha256_of(tmp_path / "x")
    (inside / checksums.FILE).write_text(f'{{"files": {{"../x": {{"sha256": "{digest}", "size": 0}}}}}}')
    assert [entry.name for entry in checksums.differences(inside) or ()] == ["../x"]
