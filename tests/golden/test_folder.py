"""``huayu verify`` on a model folder: files, keys and shapes, the recorded answer."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from huayu.chat import load_chat
from huayu.checkpoints.checksums import write_checksums
from huayu.evaluation import verify
from tests.golden.support import failed

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def whole(tiny_chat_folder, tmp_path_factory):
    """A model folder with a list of checksums and a recorded answer."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    shutil.copytree(tiny_chat_folder, folder)
    Image.radial_gradient("L").convert("RGB").resize((40, 30)).save(folder / "selftest.png")
    answer = load_chat(folder, device="cpu").ask(folder / "selftest.png", "图里有什么？").text
    recorded = {"picture": "selftest.png", "question": "图里有什么？", "answer": answer}
    (folder / "selftest.json").write_text(json.dumps(recorded), "utf-8")
    write_checksums(folder)
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "model")


def test_a_whole_folder_passes(whole, capsys):
    assert verify.main([str(whole)]) == 0
    out = capsys.readouterr().out
    for name in ("checksums.json", "keys.missing", "keys.unexpected", "keys.shapes", "selftest.json"):
        assert name in out


def test_a_folder_without_records_is_checked_as_far_as_it_goes(tiny_chat_folder, capsys):
    assert verify.main([str(tiny_chat_folder)]) == 0
    assert capsys.readouterr().out.count("not checked") == 2


def test_one_changed_byte_is_seen(copy):
    data = bytearray((copy / WEIGHTS).read_bytes())
    data[-5] ^= 1
    (copy / WEIGHTS).write_bytes(bytes(data))
    assert "checksums.json" in failed(copy)


def change(copy, edit):
    tensors = load_file(copy / WEIGHTS)
    edit(tensors)
    save_file(tensors, copy / WEIGHTS, {"format": "pt"})
    write_checksums(copy)


def test_a_missing_a_foreign_and_a_misshapen_tensor_are_seen(copy):
    def edit(tensors):
        tensors["foreign.weight"] = tensors.pop("query_tokens")
        tensors["projector.linear_1.bias"] = tensors["projector.linear_1.bias"][:-1].clone()

    change(copy, edit)
    assert failed(copy) == {"keys.missing", "keys.unexpected", "keys.shapes"}


def test_other_weights_give_another_answer(copy):
    change(copy, lambda tensors: tensors["language_model.model.embed_tokens.weight"].neg_())
    assert failed(copy) == {"selftest.json"}


def test_one_changed_character_of_the_answer_is_seen(copy):
    recorded = json.loads((copy / "selftest.json").read_text("utf-8"))
    recorded["answer"] += "。"
    (copy / "selftest.json").write_text(json.dumps(recorded), "utf-8")
    write_checksums(copy)
    assert failed(copy) == {"selftest.json"}


@pytest.mark.parametrize("text", ["{", "[]", '{"question": "?"}', '{"question": "?", "answer": "", "picture": "../x"}'])
def test_a_broken_record_is_a_failed_line(copy, text):
    (copy / "selftest.json").write_text(text, "utf-8")
    write_checksums(copy)
    assert failed(copy) == {"…"}


def test_a_folder_that_is_no_model_is_a_failed_line(tmp_path, capsys):
    assert verify.main([str(tmp_path)]) == 1
    assert "config.json" in capsys.readouterr().out
