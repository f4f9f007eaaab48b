"""A folder's fingerprint: the same here, another one when something between picture and answer has changed."""

from __future__ import annotations

import io
import json
import shutil

import pytest
import transformers
from PIL import Image

from huayu.chat import fingerprint, load_chat
from huayu.checkpoints.checksums import differences, write_checksums
from huayu.cli.main import main
from huayu.errors import ModelError
from tests.golden.support import failed
from tests.models.visualglm import tiny


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fingerprint") / "glm"
    tiny.model().save_pretrained(folder)
    tiny.processor().save_pretrained(folder)
    write_checksums(folder)
    for dtype in ("float32", "bfloat16"):
        assert fingerprint.record(folder, load_chat(folder, device="cpu", dtype=dtype).backend) == dtype
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "glm")


def test_recorded_by_dtype_and_the_same_again(whole):
    kept = fingerprint.recorded(whole)
    assert set(kept) == {"float32", "bfloat16"}
    assert failed(whole) == set()
    assert differences(whole) == []
    again = fingerprint.take(load_chat(whole, device="cpu").backend)
    assert again == kept["float32"]
    assert again.answer
    assert again.likeliest
    assert again.versions["transformers"] == transformers.__version__


def test_the_picture_is_the_same_bytes_everywhere():
    import hashlib

    digest = hashlib.sha256(fingerprint.picture().tobytes()).hexdigest()
    assert (fingerprint.picture().size, digest[:16]) == ((96, 72), "74740b69f77894a2")


def test_another_resizing_is_seen_from_the_pixels_on(folder, monkeypatch):
    plain = Image.Image.resize

    def crude(self, size, resample=None, *more, **named):
        return plain(self, size, Image.Resampling.NEAREST)

    monkeypatch.setattr(Image.Image, "resize", crude)
    wrong = failed(folder)
    assert "selftest.json float32 pixels" in wrong
    assert "selftest.json float32 prompt" not in wrong


def test_another_epsilon_is_seen_from_the_picture_on(folder):
    backend = load_chat(folder, device="cpu").backend
    backend.model.vision_encoder.post_layernorm.eps = 1.0
    ours, theirs = fingerprint.take(backend), fingerprint.recorded(folder)["float32"]
    assert ours.pixels == theirs.pixels
    assert ours.prompt == theirs.prompt
    distance = max(abs(a - b) for a, b in zip(ours.picture, theirs.picture, strict=True))
    assert distance > fingerprint.tolerance("float32", theirs.picture)


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setenv("HUAYU_LANG", "en")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out, printed.err


def test_doctor_compares_records_and_names_what_changed(folder, monkeypatch, capsys):
    monkeypatch.setattr("huayu.cli.doctor.examine", lambda: iter(()))  # it has tests of its own
    code, out, _ = run(monkeypatch, capsys, "doctor", folder)
    assert code == 0
    assert "fingerprint glm: float32, bfloat16" in out
    text = json.loads((folder / "selftest.json").read_text("utf-8"))
    text["fingerprints"]["float32"]["picture"][0] += 9
    text["fingerprints"]["float32"]["versions"]["transformers"] = "4.30.2"
    (folder / "selftest.json").write_text(json.dumps(text), "utf-8")
    code, out, _ = run(monkeypatch, capsys, "doctor", folder)
    assert code == 1
    assert "FAIL selftest.json float32 picture" in out
    assert "transformers 4.30.2 → " in out
    code, out, _ = run(monkeypatch, capsys, "doctor", folder, "--record", "--dtype", "float32")
    assert code == 0
    assert "FAIL" not in out


def test_what_has_no_fingerprint_says_so(folder, tiny_chat_folder, tiny_chat, monkeypatch, capsys):
    monkeypatch.setattr("huayu.cli.doctor.examine", lambda: iter(()))
    (folder / "selftest.json").unlink()
    code, out, _ = run(monkeypatch, capsys, "doctor", folder)
    assert code == 0
    assert "-    fingerprint glm: none; --record takes one" in out
    with pytest.raises(ModelError, match="VisualGLM folders"):
        fingerprint.record(tiny_chat_folder, tiny_chat.backend)
    assert "--record needs a model" in run(monkeypatch, capsys, "doctor", "--record")[2]
    code, out, _ = run(monkeypatch, capsys, "doctor", folder / "nowhere")
    assert code == 1
    assert "There is no file or folder" in out
