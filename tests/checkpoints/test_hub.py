"""Hub ids against a small hub of our own on this machine: cache first, mirrors in order, offline, half downloads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from huayu.checkpoints import hub
from huayu.checkpoints.hub import choose, fetch
from huayu.errors import CheckpointError, ModelError
from tests.checkpoints.fake_hub import COMMIT, Hub, serving, with_empty_cache

REPO = "someone/a-model"
FILES = {
    "config.json": b"{}",
    "modeling_evil.py": b"raise SystemExit('code of a repository ran')",
    "LICENSE": b"a licence",
    "model.safetensors": (2).to_bytes(8, "little") + b"{}",
    "sub/model.safetensors": b"not wanted",
    "vocab.txt": b"<pad>",
}


@pytest.fixture
def server() -> Iterator[Hub]:
    with serving(REPO, FILES) as server:
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with_empty_cache(tmp_path / "hub", monkeypatch)
    return tmp_path / "hub"


def test_weights_and_text_are_fetched_and_never_code(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUAYU_MIRRORS", server.url)
    found = fetch(REPO)
    assert found.revision == COMMIT
    names = sorted(str(path.relative_to(found.folder)) for path in found.folder.rglob("*"))
    assert names == ["LICENSE", "config.json", "model.safetensors", "vocab.txt"]
    assert (found.folder / "config.json").read_bytes() == b"{}"
    server.seen.clear()
    assert fetch(REPO) == found
    assert server.seen == []  # what is complete in the cache needs no network


def test_mirrors_are_tried_in_order(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with Hub(REPO, {}) as closed:
        dead = closed.url
    monkeypatch.setenv("HUAYU_MIRRORS", f"{dead}, {server.url}/")
    assert fetch(REPO).revision == COMMIT


def test_all_that_was_tried_is_named(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with Hub(REPO, {}) as closed:
        dead = closed.url
    server.status = 503
    monkeypatch.setenv("HF_ENDPOINT", dead)
    monkeypatch.setenv("HUAYU_MIRRORS", server.url)
    with pytest.raises(CheckpointError) as caught:
        fetch(REPO)
    assert f"{dead} (ConnectError)" in caught.value.en
    assert f"{server.url} (HTTP 503)" in caught.value.en
    assert "local cache (absent)" in caught.value.en
    assert "已尝试" in caught.value.zh


def test_the_token_stays_away_from_mirrors(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HUAYU_MIRRORS", server.url)
    fetch(REPO)
    assert set(server.tokens) == {""}


def test_the_token_goes_to_the_endpoint_the_user_set(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    fetch(REPO)
    assert "Bearer hf_secret" in server.tokens


def test_offline_uses_the_cache_only(server: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUAYU_MIRRORS", server.url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"not complete in the local cache \(absent\).*HF_HUB_OFFLINE"):
        fetch(REPO)
    assert server.seen == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    fetch(REPO)
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "yes")
    server.seen.clear()
    assert fetch(REPO).revision == COMMIT
    assert server.seen == []


def test_half_a_download_is_named_and_finished(server: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUAYU_MIRRORS", server.url)
    folder = fetch(REPO).folder
    weights = folder / "model.safetensors"
    weights.resolve().unlink()
    weights.unlink()
    blobs = cache / "models--someone--a-model" / "blobs"
    (blobs / "abc.incomplete").write_bytes(b"")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for files in ((), ("model.safetensors",)):
        with pytest.raises(CheckpointError, match=r"half a download: abc\.incomplete"):
            fetch(REPO, files=files)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert (fetch(REPO).folder / "model.safetensors").is_file()


def test_one_file_of_several(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUAYU_MIRRORS", server.url)
    server.files |= {"one.bin": b"1", "two.bin": b"2"}
    found = fetch(REPO, files=["two.bin"])
    assert (found.folder / "two.bin").is_file()
    assert not (found.folder / "one.bin").exists()
    assert not (found.folder / "model.safetensors").exists()
    assert (fetch(REPO, files=["one.bin"]).folder / "one.bin").is_file()
    with pytest.raises(ModelError, match=r"no file three\.bin"):
        fetch(REPO, files=["three.bin"])


def test_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub.endpoints() == ["https://huggingface.co", "https://hf-mirror.com"]
    monkeypatch.setenv("HF_ENDPOINT", "http://mine/")
    assert hub.endpoints() == ["http://mine", "https://huggingface.co", "https://hf-mirror.com"]
    monkeypatch.setenv("HUAYU_MIRRORS", "http://a, http://mine,,http://b/")
    assert hub.endpoints() == ["http://mine", "http://a", "http://b"]
    monkeypatch.setenv("HUAYU_MIRRORS", "")
    assert hub.endpoints() == ["http://mine"]


@pytest.mark.parametrize(
    ("listing", "chosen"),
    [
        (["model.safetensors", "pytorch_model.bin", "tf_model.h5"], ["model.safetensors"]),
        (
            ["model-1-of-2.safetensors", "model-2-of-2.safetensors", "model.safetensors.index.json", "consolidated.pth",
             "pytorch_model.bin.index.json", "pytorch_model-1-of-1.bin"],
            ["model-1-of-2.safetensors", "model-2-of-2.safetensors", "model.safetensors.index.json"],
        ),
        (
            ["pytorch_model-1-of-1.bin", "pytorch_model.bin.index.json", "ice_text.model", "modeling_chatglm.py"],
            ["ice_text.model", "pytorch_model-1-of-1.bin", "pytorch_model.bin.index.json"],
        ),
        (["pytorch_model.bin", "pytorch_model.v1.bin", "chat.jinja"], ["chat.jinja", "pytorch_model.bin"]),
        (["weights.pt", "README.md", ".gitattributes", "run.sh"], ["README.md", "weights.pt"]),
    ],
)  # fmt: skip
def test_what_is_taken_of_a_repository(listing: list[str], chosen: list[str]) -> None:
    assert choose(listing) == chosen


def test_repositories_without_one_model() -> None:
    with pytest.raises(ModelError, match=r"several models \(a\.pt, b\.bin\)"):
        choose(["a.pt", "b.bin"])
    with pytest.raises(ModelError, match="no weights"):
        choose(["README.md", "model.gguf"])
