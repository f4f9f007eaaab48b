"""Where the vocabulary is looked for, and that only the right one is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from huayu.checkpoints import vocabulary
from huayu.checkpoints.vocabulary import BEE_MD5, find_vocabulary, vocabulary_md5
from huayu.errors import CheckpointError

TOKENS = "\n".join(["<pad>", "<unk>", "一", "two words"]).encode()
REAL = Path(__file__).parents[3] / "shared" / "data" / "cpm-bee" / "bee.txt"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder ``model`` and a home without a vocabulary; these few tokens are taken for the published ones."""
    monkeypatch.setenv("HUAYU_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HUAYU_VOCAB", raising=False)
    (tmp_path / "all" / "model").mkdir(parents=True)
    (tmp_path / "plain").write_bytes(TOKENS)
    md5 = vocabulary_md5(tmp_path / "plain")
    monkeypatch.setattr(vocabulary, "BEE_MD5", md5)
    monkeypatch.setattr(vocabulary, "BEE_SIZE", len(TOKENS))
    monkeypatch.setattr(find_vocabulary, "__defaults__", (None, md5))
    return tmp_path / "all"


def _put(path: Path, data: bytes = TOKENS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "place",
    [
        "model/vocab.txt",
        "model/bee.txt",
        "model/vocabs/bee.txt",
        "bee.txt",
        "cpm_tokenizers/vocabs/x.txt",
        "model/renamed",
        "../home/bee.txt",
    ],
)
@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_found_by_name_or_by_hash(places: Path, place: str, ending: bytes) -> None:
    _put(places / "model" / "notes.txt", b"x" * len(TOKENS))
    path = _put(places / place, TOKENS + ending)
    assert find_vocabulary(places / "model").samefile(path)
    weights = _put(places / "model" / "w.pt", b"weights")
    assert find_vocabulary(weights).samefile(path)


def test_another_vocabulary_is_not_taken(places: Path) -> None:
    other = _put(places / "model" / "vocab.txt", TOKENS + b"3")
    right = _put(places / "vocabs" / "bee.txt")
    assert find_vocabulary(places / "model").samefile(right)
    right.unlink()
    with pytest.raises(CheckpointError, match=r"vocab.txt is another vocabulary.*VisCPM-Chat.*md5") as caught:
        find_vocabulary(places / "model")
    assert "另一个词表" in caught.value.zh
    assert find_vocabulary(places / "model", md5=None) == other


def test_a_named_file_is_taken_or_refused(places: Path) -> None:
    named = _put(places / "elsewhere" / "v")
    assert find_vocabulary(places / "model", named) == named
    assert find_vocabulary(places / "model", _put(places / "dir" / "bee.txt").parent).name == "bee.txt"
    with pytest.raises(CheckpointError, match="There is no vocabulary file"):
        find_vocabulary(places / "model", places / "nowhere")
    _put(places / "model" / "vocab.txt")
    with pytest.raises(CheckpointError, match="not the vocabulary of this model: md5 "):
        find_vocabulary(places / "model", _put(named, b"<pad>"))


def test_the_environment_names_one(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = _put(places / "far" / "away")
    monkeypatch.setenv("HUAYU_VOCAB", str(named))
    assert find_vocabulary(places / "model") == named
    own = _put(places / "model" / "vocab.txt", b"<pad>\n<unk>")
    assert find_vocabulary(places / "model", md5=None) == own


def test_only_so_many_files_are_looked_at(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _put(places / "model" / "b")
    monkeypatch.setattr(vocabulary, "_MAX_LOOKED_AT", 1)
    _put(places / "model" / "a", b"x")
    with pytest.raises(CheckpointError):
        find_vocabulary(places / "model")


@pytest.mark.golden
@pytest.mark.skipif(not REAL.is_file(), reason="the published vocabulary is not ours to keep in this repository")
def test_the_published_file_is_the_published_one() -> None:
    assert vocabulary_md5(REAL) == BEE_MD5
    assert REAL.stat().st_size == vocabulary.BEE_SIZE
    assert len(REAL.read_bytes().split(b"\n")) == 86583
