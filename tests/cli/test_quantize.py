"""``huayu quantize`` and what ``huayu convert`` records: folders that open, packed tensors to the bit."""

from __future__ import annotations

import io
import json
from argparse import Namespace

import pytest
import torch

from huayu.chat import fingerprint, load_chat
from huayu.checkpoints.convert import convert
from huayu.checkpoints.find import locate
from huayu.checkpoints.opening import open_model
from huayu.checkpoints.reader import open_tensors
from huayu.cli import convert as command
from huayu.cli.main import main
from huayu.quantization import quantize_model, quantize_rows
from tests.golden.support import failed
from tests.models.visualglm import tiny

LINEARS = ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")


@pytest.fixture
def run(monkeypatch, capsys):
    monkeypatch.setenv("HUAYU_LANG", "en")

    def command(*arguments):
        monkeypatch.setattr("sys.stdin", io.StringIO())
        with pytest.raises(SystemExit) as stop:
            main(list(map(str, arguments)))
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out + printed.err

    return command


@pytest.fixture(scope="module")
def glm(tmp_path_factory):
    """A published folder in fp16, with its vocabulary."""
    root = tmp_path_factory.mktemp("glm")
    tiny.model().save_pretrained(root / "ours")
    return convert(root / "ours", root / "hf", "float16", to="hf", vocab=tiny.VOCABULARY).path


def same_as_in_memory(folder, source, bits, scope, dtype=torch.float16):
    found = open_model(locate(folder), dtype).model.state_dict()
    expected = quantize_model(open_model(locate(source), dtype).model, bits, scope).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("bits", "scope"), [("8", "published"), ("int4", "lean")])
def test_a_visualglm_folder(run, glm, tmp_path, bits, scope):
    folder = tmp_path / "packed"
    code, out = run("quantize", glm, folder, "--bits", bits, "--scope", scope)
    assert code == 0
    assert "Its fingerprint in float16 was recorded." in out
    same_as_in_memory(folder, glm, bits, scope)
    assert failed(folder) == set()
    assert load_chat(folder).ask(tiny.pictures()[0], "你好", max_new_tokens=4).text
    assert f"{bits.removeprefix('int')} bits" in (folder / "README.md").read_text("utf-8")
    code, out = run("quantize", folder, tmp_path / "again", "--quantize", "int4" if bits == "8" else "int8")
    assert code == 1
    assert "quantised in" in out


@pytest.mark.parametrize("bits", [8, 4])
def test_a_published_folder_to_the_bit(run, glm, tmp_path, bits):
    plain = dict(open_tensors(glm))
    expected = dict(plain)
    for name in plain:
        if name.startswith("transformer.layers.") and name.endswith(tuple(f"{linear}.weight" for linear in LINEARS)):
            expected[name], expected[f"{name}_scale"] = quantize_rows(plain[name], bits)
    assert run("quantize", glm, tmp_path / "hf", "--bits", bits, "--to", "hf", "--quiet") == (0, "")
    run("convert", tmp_path / "hf", tmp_path / "ours", "--no-fingerprint")
    run("convert", tmp_path / "ours", tmp_path / "back", "--to", "hf")
    for folder in (tmp_path / "hf", tmp_path / "back"):
        found = dict(open_tensors(folder))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert json.loads((folder / "config.json").read_text("utf-8"))["quantization_bit"] == bits
    assert load_chat(tmp_path / "hf").ask(None, "你好", max_new_tokens=4).text
    assert not (tmp_path / "ours" / "selftest.json").exists()
    assert "no quantised weights" in run("convert", tmp_path / "ours", tmp_path / "sat", "--to", "sat")[1]


@pytest.mark.parametrize("bits", ["int8", "4"])
def test_a_viscpm_folder(run, tiny_chat_folder, tmp_path, bits):
    (source := tmp_path / "source").mkdir()
    for path in tiny_chat_folder.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    (source / "selftest.json").write_text('{"question": "a", "answer": "of the weights as they were"}', "utf-8")
    code, out = run("quantize", source, tmp_path / "packed", "--quantize", bits)
    assert code == 0
    assert "fingerprint" not in out
    same_as_in_memory(tmp_path / "packed", source, bits, "published", torch.float32)
    assert failed(tmp_path / "packed") == set()
    assert load_chat(tmp_path / "packed").ask(tiny.pictures()[0], "红？", max_new_tokens=4).text
    code, out = run("quantize", source, tmp_path / "lean", "--bits", bits, "--scope", "lean")
    assert (code, "no scope 'lean'" in out) == (1, True)


def test_what_cannot_be_quantised(run, tmp_path):
    code, out = run("quantize", "huayu-paint-mini", tmp_path / "x", "--bits", 8)
    assert (code, "cannot be quantised" in out) == (1, True)
    assert "--bits" in run("quantize", "huayu-chat-mini", tmp_path / "x")[1]
    assert "int8 and int4" in run("quantize", "huayu-chat-mini", tmp_path / "x", "--bits", 3)[1]
    assert not (tmp_path / "x").exists()


def test_convert_records_a_fingerprint_where_it_can(run, glm, tmp_path, monkeypatch):
    code, out = run("convert", glm, tmp_path / "a")
    assert code == 0
    assert "fingerprint in float16" in out
    kept = fingerprint.recorded(tmp_path / "a")
    assert set(kept) == {"float16"}
    assert failed(tmp_path / "a") == set()
    monkeypatch.setattr(fingerprint, "take", lambda backend: pytest.fail("the folder came with one"))
    run("convert", tmp_path / "a", tmp_path / "b")
    assert fingerprint.recorded(tmp_path / "b") == kept
    monkeypatch.setattr(command, "available_memory", lambda: 1000)
    out = run("convert", glm, tmp_path / "c")[1]
    assert "No fingerprint was recorded (0.0 GB > 0.0 GB); later: huayu doctor" in out
    assert not (tmp_path / "c" / "selftest.json").exists()
    assert command.record(Namespace(path=tiny.VOCABULARY), quiet=True) == []
