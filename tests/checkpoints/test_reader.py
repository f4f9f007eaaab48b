"""Files of weights: what is opened, what is refused, and that nothing in them is executed."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from huayu.checkpoints import sniff
from huayu.checkpoints.reader import open_tensors
from huayu.errors import CheckpointError

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}


def _check(path: Path) -> None:
    tensors = open_tensors(path)
    assert list(tensors) == list(WEIGHTS)
    assert tensors.shapes == {"a.weight": (2, 3), "b": (4,)}
    assert tensors.entries["b"].dtype is torch.float16
    assert tensors.nbytes == 24 + 8
    assert tensors.dtype is torch.float32  # the one that most bytes are in
    for name, tensor in WEIGHTS.items():
        assert torch.equal(tensors[name], tensor)


def test_opens_safetensors(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    _check(tmp_path)
    _check(tmp_path / "model.safetensors")


@pytest.mark.parametrize("wrapper", [None, "state_dict", "module", "model"])
@pytest.mark.parametrize("suffix", [".pt", ".bin", ".pth"])
def test_opens_state_dicts(tmp_path: Path, wrapper: str | None, suffix: str) -> None:
    state = {wrapper: WEIGHTS, "epoch": 3} if wrapper else WEIGHTS
    torch.save(state, tmp_path / f"weights{suffix}")
    _check(tmp_path / f"weights{suffix}")
    _check(tmp_path)
    assert open_tensors(tmp_path).mapped


def test_old_files_are_read_whole(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    _check(tmp_path / "old.pt")
    assert not open_tensors(tmp_path).mapped


def test_opens_shards(tmp_path: Path) -> None:
    _write_shards(tmp_path)
    _check(tmp_path)


def test_released_pages_can_be_read_again(tmp_path: Path) -> None:
    big = torch.arange(1_000_000.0)
    for path in (tmp_path / "big.pt", tmp_path / "big.safetensors"):
        torch.save({"x": big}, path) if path.suffix == ".pt" else save_file({"x": big}, path)
        tensors = open_tensors(path)
        tensors.release(tensors["x"])
        assert torch.equal(tensors["x"], big)


class _Runs:
    """Unpickling one makes a folder: code in a pickle, seen from outside."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "protocol 4", "in a list"])
def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path: Path, form: str) -> None:
    trace, path = tmp_path / "it ran", tmp_path / "evil.bin"
    state = {**WEIGHTS, "c": _Runs(trace)}
    if form in ("zip", "in a list"):
        torch.save([state] if form == "in a list" else state, path)
    elif form == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(state, protocol=4 if form == "protocol 4" else 2))
    with pytest.raises(CheckpointError, match=r"(?i)refused.*nothing in it was executed"):
        open_tensors(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(_Runs(trace)))  # the trap works
    assert trace.is_dir()


def test_code_is_not_reached_through_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"c": _Runs(tmp_path / "it ran")}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError):
        open_tensors(tmp_path / "evil.pt")
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_a_file_that_is_cut_short_is_named(tmp_path: Path, form: str, share: float) -> None:
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    state = {"x": torch.randn(1000)}
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=path.name):
        open_tensors(path)


def test_half_a_safetensors_file_says_how_much_is_there(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1000)}, tmp_path / "w.safetensors")
    size = (tmp_path / "w.safetensors").stat().st_size
    os.truncate(tmp_path / "w.safetensors", 1000)
    with pytest.raises(CheckpointError, match=f"1000 of {size} bytes"):
        open_tensors(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"),
        (b"<!DOCTYPE html><html></html>", "not a file of weights"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a file of weights"),
        (b"GGUF" + bytes(100), "not a file of weights"),
        (b"\x80\x02}q\x00.", "damaged"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "w.bin").write_bytes(data)
    with pytest.raises(CheckpointError, match=words):
        open_tensors(tmp_path / "w.bin")


def test_other_zip_files_are_refused(tmp_path: Path) -> None:
    good = io.BytesIO()
    torch.save(WEIGHTS, good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(tmp_path / "again.pt", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as target:
        target.writestr("m/data.pkl", b"")
        target.writestr("m/constants.pkl", b"")
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as target:
        target.writestr("hello.txt", b"hello")
    for name, words in (("again.pt", "compression"), ("script.pt", "not one that torch"), ("other.pt", "not one that")):
        with pytest.raises(CheckpointError, match=words):
            open_tensors(tmp_path / name)


@pytest.mark.parametrize("state", [{"a": torch.ones(1), "n": 3}, {}, [torch.ones(1)], torch.ones(1)])
def test_a_state_dict_holds_tensors_only(tmp_path: Path, state: object) -> None:
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="not a state dict"):
        open_tensors(tmp_path / "w.pt")


def _write_shards(folder: Path) -> dict[str, str]:
    index = {}
    for number, (name, tensor) in enumerate(WEIGHTS.items(), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensor}, folder / file)
        index[name] = file
    _write_index(folder, index)
    return index


def _write_index(folder: Path, index: dict[str, str]) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}), "utf-8")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    index = _write_shards(tmp_path)
    (tmp_path / index["b"]).unlink()
    with pytest.raises(CheckpointError, match=r"half a download: model-00002-of-00002.safetensors"):
        open_tensors(tmp_path)


def test_an_index_may_not_lie(tmp_path: Path) -> None:
    index = _write_shards(tmp_path)
    _write_index(tmp_path, {**index, "gone": index["b"]})
    with pytest.raises(CheckpointError, match="gone is in the index"):
        open_tensors(tmp_path)
    _write_index(tmp_path, {**index, "b": index["a.weight"]})
    save_file(WEIGHTS, tmp_path / index["a.weight"])
    _write_index(tmp_path, {"a.weight": index["b"], "b": index["a.weight"]})
    with pytest.raises(CheckpointError, match="two shards"):
        open_tensors(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'])
def test_a_damaged_index_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text, "utf-8")
    with pytest.raises(CheckpointError, match=r"index\.json is damaged"):
        open_tensors(tmp_path)


def test_an_index_stays_in_its_folder(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "secret.safetensors")
    inside = tmp_path / "model"
    inside.mkdir()
    _write_index(inside, {"b": "../secret.safetensors"})
    with pytest.raises(CheckpointError, match="outside its folder"):
        open_tensors(inside)


def test_unfinished_downloads_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no weights"):
        sniff.weight_files(tmp_path)
    (tmp_path / "pytorch_model.bin.crdownload").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin.crdownload is not finished"):
        sniff.weight_files(tmp_path)
    torch.save(WEIGHTS, tmp_path / "pytorch_model.bin")
    assert sniff.weight_files(tmp_path).files == (tmp_path / "pytorch_model.bin",)
    (tmp_path / "pytorch_model.bin.aria2").write_bytes(b"")
    with pytest.raises(CheckpointError, match="half a download"):
        sniff.weight_files(tmp_path)


def test_several_models_in_a_folder_must_be_told_apart(tmp_path: Path) -> None:
    for name in ("one.pt", "two.bin"):
        torch.save(WEIGHTS, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"several files of weights \(one.pt, two.bin\)"):
        open_tensors(tmp_path)
    _check(tmp_path / "one.pt")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no"):
        open_tensors(tmp_path / "nowhere")
