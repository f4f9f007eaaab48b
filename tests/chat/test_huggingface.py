"""The adapter for other libraries' models, on a tiny Llava with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from huayu.chat import ChatModel, load_chat
from huayu.errors import CheckpointError, ModelError, OptionError, PromptError

RED, BLUE = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (20, 50), "blue")
SEARCHES = [
    {"search": "greedy", "repetition_penalty": 1.2},
    {"search": "sample", "temperature": 0.9, "top_p": 0.9, "seed": 4},
    {"search": "beam", "num_beams": 3, "temperature": 0.8, "length_penalty": 2.0},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.chat.tiny_llava import save_tiny_llava

    return save_tiny_llava(tmp_path_factory.mktemp("tiny-llava"))


@pytest.fixture(scope="module")
def llava(folder: Path) -> ChatModel:
    return load_chat(folder, device="cpu")


@pytest.mark.parametrize("search", SEARCHES, ids=lambda s: s["search"])
def test_streamed_is_whole(llava: ChatModel, search: dict) -> None:
    stream = llava.stream(RED, "图里有什么？", max_new_tokens=24, **search)
    pieces = list(stream)
    reply = llava.ask(RED, "图里有什么？", max_new_tokens=24, **search)
    assert "".join(pieces) == stream.reply.text == reply.text
    assert len(pieces) > 2
    assert reply.usage.completion_tokens > 2


def test_beams_are_the_library_s_own(llava: ChatModel) -> None:
    backend = llava.backend
    prompt = backend.prepare(llava.ask(RED, "a", max_new_tokens=1).conversation, "图里有什么？")
    inputs = backend._inputs([prompt.inputs])
    ids = backend.model.generate(**inputs, num_beams=3, do_sample=False, max_new_tokens=20, length_penalty=2.0)
    whole = backend.tokenizer.decode(ids[0, prompt.num_tokens :], skip_special_tokens=True)
    conversation = llava.ask(RED, "a", max_new_tokens=1).conversation
    ours = llava.ask(
        None, "图里有什么？", conversation=conversation, num_beams=3, max_new_tokens=20, length_penalty=2.0
    )
    assert ours.text == whole


def test_batch_is_single(llava: ChatModel) -> None:
    requests = [(RED, "What is this?"), (None, "你好"), ([RED, BLUE], "这两张图片有什么不同？")]
    for search in (SEARCHES[0], SEARCHES[2]):
        batch = llava.ask_batch(requests, max_new_tokens=10, **search)
        single = [llava.ask(picture, question, max_new_tokens=10, **search) for picture, question in requests]
        assert [reply.text for reply in batch] == [reply.text for reply in single]


def test_pictures_stand_where_they_were_shown(llava: ChatModel) -> None:
    first = llava.ask(RED, "one", max_new_tokens=2)
    second = llava.ask(BLUE, "two", conversation=first.conversation, max_new_tokens=2)
    messages = llava.backend.prepare(second.conversation, "three").inputs
    assert [len(p.tobytes()) for p in messages.pictures] == [len(RED.tobytes()), len(BLUE.tobytes())]
    assert messages.text.startswith("<s>user:<image>one")
    assert "user:<image>two" in messages.text
    assert messages.text.endswith("user:threeassistant:")
    assert llava.ask(BLUE, "one", max_new_tokens=20).text != llava.ask(RED, "one", max_new_tokens=20).text


@pytest.mark.parametrize("search", SEARCHES, ids=lambda s: s["search"])
def test_cancel(llava: ChatModel, search: dict) -> None:
    stream = llava.stream(RED, "这是什么？", max_new_tokens=150, **search)
    shown = next(stream)
    stream.cancel()
    shown += "".join(stream)
    assert stream.reply.finish == "cancelled"
    assert stream.reply.text == shown
    assert stream.reply.usage.completion_tokens < 150


def test_a_user_cannot_write_special_tokens(llava: ChatModel) -> None:
    text = "see <image> and </s><s>"
    reply = llava.ask(RED, text, max_new_tokens=3)
    ids = llava.backend._inputs([llava.backend.prepare(reply.conversation, text).inputs])["input_ids"][0].tolist()
    assert ids.count(3) == 4  # one picture of 2 × 2 patches, shown once
    assert ids.count(1) == 1
    assert ids.count(2) == 0


def test_oldest_turns_go_and_their_pictures_stay(llava: ChatModel) -> None:
    reply = llava.ask(RED, "这" * 15, max_new_tokens=4)
    for _ in range(3):
        reply = llava.ask(None, "这" * 15, conversation=reply.conversation, max_new_tokens=4)
    reply = llava.ask(None, "这" * 15, conversation=reply.conversation, max_new_tokens=4)
    assert reply.dropped_turns >= 1
    assert reply.usage.prompt_tokens < 256
    with pytest.raises(PromptError, match=r"\d+ tokens.*256"):
        llava.ask(RED, "这" * 100)


def test_answers_end_where_the_context_ends(llava: ChatModel) -> None:
    reply = llava.ask(None, "a" * 230, max_new_tokens=50, search="greedy")
    assert reply.usage.prompt_tokens + reply.usage.completion_tokens <= 256
    assert reply.finish == "length"


def test_options_that_fit_no_search(llava: ChatModel) -> None:
    with pytest.raises(OptionError, match="length_penalty"):
        llava.ask(RED, "a", search="greedy", length_penalty=2.0)


def test_without_a_template_turns_are_plain_lines(tmp_path: Path) -> None:
    from tests.chat.tiny_llava import save_tiny_llava

    plain = load_chat(save_tiny_llava(tmp_path, template=None), device="cpu")
    reply = plain.ask(RED, "What?", max_new_tokens=3)
    text = plain.backend.prepare(reply.conversation, "And?").inputs.text
    assert text.startswith("User: <image> What?\nAI: ")
    assert text.endswith("User: And?\nAI:")


def test_a_missing_weight_is_an_error_that_names_it(tmp_path: Path, folder: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "m")
    weights = load_file(tmp_path / "m" / "model.safetensors")
    name = next(name for name in weights if "q_proj" in name)
    del weights[name]
    save_file(weights, tmp_path / "m" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="q_proj"):
        load_chat(tmp_path / "m", device="cpu")


def test_a_folder_of_nothing_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no_such_thing"}')
    (tmp_path / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises((ModelError, CheckpointError)) as caught:
        load_chat(tmp_path, device="cpu")
    assert "\n" not in caught.value.en
