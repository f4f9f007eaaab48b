"""Tiles, a second look and larger inputs, above several backends."""

from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image

from huayu.chat import ChatModel, ChatOptions, Picture, load_chat
from huayu.chat import tiles as tiling
from huayu.errors import ModelError, OptionError
from tests.chat.eye import COLOURS, Eye

LISTING = {"zh": "图里都有什么？", "en": "What is in the picture?"}
ALL = {"tiles": 2, "second_look": True}


@pytest.fixture
def scene() -> Image.Image:
    """A dog at the top left, a car at the bottom right, each 1 % of a wide picture with some grain."""
    picture = Image.new("RGB", (400, 200), "white")
    picture.paste(COLOURS["dog"], (20, 20, 50, 46))
    picture.paste(COLOURS["car"], (350, 150, 380, 176))
    return picture


@pytest.fixture
def eye() -> ChatModel:
    return ChatModel(Eye())


def test_tiles_cover_the_picture_and_overlap(scene: Image.Image) -> None:
    parts = tiling.cut(Image.effect_noise((400, 200), 90).convert("RGB"), 2)
    assert len(parts) == 8
    assert {part.box[0] for part in parts} >= {0.0}
    assert max(part.box[2] for part in parts) == max(part.box[3] for part in parts) == 1.0
    lefts = sorted({(part.box[0], part.box[2]) for part in parts})
    assert all(after[0] < before[1] for before, after in itertools.pairwise(lefts))
    assert len(tiling.cut(scene, 2)) == 2  # the plain ones are left out
    assert len(tiling.cut(Image.effect_noise((3000, 100), 90).convert("RGB"), 6)) <= tiling.MOST_TILES


@pytest.mark.parametrize(
    ("language", "one", "text"),
    [
        ("zh", "我不知道。", "图里有一只狗（左上方）、一只猫（左上方）和一辆汽车（右下方）。"),
        (
            "en",
            "I do not know.",
            "There is a dog at the top left, a cat at the top left and a car at the bottom right.",
        ),
    ],
)
def test_tiles_find_what_one_look_does_not(
    eye: ChatModel, scene: Image.Image, language: str, one: str, text: str
) -> None:
    assert eye.ask(scene, LISTING[language]).text == one
    reply = eye.ask(scene, LISTING[language], tiles=3)
    assert reply.text == text == reply.conversation.turns[-1].answer
    assert [len(seen.where) for seen in reply.seen] == [1, 1, 1]
    assert reply.language == language
    assert len(reply.conversation.pictures) == 1
    assert reply.usage.prompt_tokens > 2


def test_a_second_look_takes_out_what_is_denied(eye: ChatModel, scene: Image.Image) -> None:
    dog = scene.crop((10, 10, 60, 60))
    assert eye.ask(dog, LISTING["en"]).text == "There is a dog and a cat."
    reply = eye.ask(dog, LISTING["en"], second_look=True)
    assert reply.text == "There is a dog." == reply.conversation.turns[-1].answer
    assert [(look.thing, look.there) for look in reply.second_look] == [("a dog", True), ("a cat", False)]
    both = eye.ask(scene, LISTING["zh"], tiles=3, second_look=True)
    assert both.text == "图里有一只狗（左上方）和一辆汽车（右下方）。"
    assert eye.ask(None, LISTING["en"], second_look=True).second_look == ()


def test_what_only_the_whole_shows_stays_when_it_is_confirmed(eye: ChatModel) -> None:
    picture = Image.new("RGB", (300, 300), COLOURS["tree"])  # every part is plain
    picture.paste(COLOURS["dog"], (140, 140, 145, 145))
    assert eye.ask(picture, LISTING["en"], tiles=2).text.startswith("There is a tree")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Is there a car in the picture?", "Yes, there is a car (at the bottom right)."),
        ("图里有汽车吗？", "有，图里有一个汽车（右下方）。"),
        ("圖裡有狗嗎？", "有，圖裏有一個狗（左上方）。"),
        ("Is there a tree in the picture?", "No, there is no tree."),
    ],
)
def test_yes_from_a_part_is_yes(eye: ChatModel, scene: Image.Image, question: str, answer: str) -> None:
    assert eye.ask(scene, question, tiles=3).text == answer


def test_what_a_part_cannot_know_is_left_to_the_whole(eye: ChatModel, scene: Image.Image) -> None:
    for question in ("What colour is the background?", "左边是什么？", "图里有几样东西？"):
        eye.backend.asked.clear()
        assert eye.ask(scene, question, tiles=3).text == eye.ask(scene, question).text
        assert eye.backend.asked == [question, question]


def test_a_batch_is_its_rows_and_a_stream_its_answer(eye: ChatModel, scene: Image.Image) -> None:
    requests = [(scene, LISTING["zh"]), (None, "你好"), (scene.crop((10, 10, 60, 60)), LISTING["en"])]
    replies = eye.ask_batch(requests, batch_size=2, **ALL)
    for (picture, question), reply in zip(requests, replies, strict=True):
        stream = eye.stream(picture, question, **ALL)
        assert "".join(stream) == stream.reply.text == reply.text == eye.ask(picture, question, **ALL).text


def test_follow_ups_go_on_from_the_settled_answer(eye: ChatModel, scene: Image.Image) -> None:
    first = eye.ask(scene, LISTING["en"], tiles=3, second_look=True)
    again = eye.ask(None, "图里有狗吗？", conversation=first.conversation, tiles=3)
    assert [turn.answer for turn in again.conversation.turns] == [first.text, again.text]
    assert again.text.endswith("（左上方）。")


def test_cancel_keeps_the_first_answer(scene: Image.Image) -> None:
    eye = Eye()
    chat = ChatModel(eye)
    stream = chat.stream(scene.crop((10, 10, 60, 60)), LISTING["en"], second_look=True)
    prepare = eye.prepare

    def stopping(conversation, question):
        if question.startswith("Is there"):
            threading.Thread(target=stream.cancel).start()
            stream._run.cancel.wait(10)
        return prepare(conversation, question)

    eye.prepare = stopping
    list(stream)
    assert stream.reply.finish == "cancelled"
    assert stream.reply.text == "There is a dog and a cat."


def test_one_row_may_be_cancelled_alone(eye: ChatModel, scene: Image.Image) -> None:
    options = ChatOptions(second_look=True)
    rows = [eye.prepare((scene.crop((10, 10, 60, 60)), LISTING["en"]), options) for _ in range(2)]
    run = eye.start(rows, options)
    run.cancel_row(0)
    assert run.reply(1) is None
    list(run)
    assert [run.reply(row).finish for row in range(2)] == ["cancelled", "stop"]
    assert run.reply(1).text == "There is a dog."


def test_a_refused_question_is_not_looked_into(scene: Image.Image) -> None:
    from huayu.safety import Guard, WordCheck

    chat = ChatModel(Eye(), Guard([WordCheck()], []))
    reply = chat.ask(scene, "how to make a bomb at home", tiles=2, second_look=True)
    assert reply.finish == "refused"
    assert chat.backend.asked == []


@pytest.mark.parametrize("bad", [{"tiles": 1}, {"tiles": 7}, {"tiles": 2, "json_schema": "{}"}])
def test_options_out_of_range(bad: dict) -> None:
    with pytest.raises(OptionError):
        ChatOptions(**bad)


def test_tiles_are_of_one_picture(eye: ChatModel, scene: Image.Image) -> None:
    assert ChatOptions(tiles=True).tiles == 2
    assert ChatOptions(tiles=False).tiles is None
    with pytest.raises(OptionError, match="one picture"):
        eye.ask([scene, scene.rotate(90)], LISTING["en"], tiles=2)


@pytest.mark.parametrize("family", ["viscpm", "visualglm", "llava"])
def test_any_backend_is_asked_in_parts(family: str, tiny_chat: ChatModel, tmp_path: Path) -> None:
    if family == "viscpm":
        chat = tiny_chat
    elif family == "visualglm":
        from huayu.chat.visualglm import VisualGLMBackend
        from tests.models.visualglm import tiny

        chat = ChatModel(VisualGLMBackend(tiny.model(), tiny.processor(), name="tiny"))
    else:
        from tests.chat.tiny_llava import save_tiny_llava

        chat = load_chat(save_tiny_llava(tmp_path), device="cpu")
    noise = Image.effect_noise((90, 60), 90).convert("RGB")
    short = {"search": "greedy", "max_new_tokens": 4}
    plain = chat.ask(noise, "图里有什么？", **short)
    reply = chat.ask(noise, "图里有什么？", **short, **ALL)
    assert reply.usage.prompt_tokens > 4 * plain.usage.prompt_tokens
    assert reply.conversation.turns[-1].answer == reply.text
    again = chat.ask(None, "图里有什么？", conversation=reply.conversation, **short, **ALL)
    assert len(again.conversation.turns) == 2


def test_larger_inputs_by_interpolated_positions(tiny_chat_folder: Path, tiny_chat: ChatModel) -> None:
    noise = Image.effect_noise((90, 60), 90).convert("RGB")
    ask = lambda chat: chat.ask(noise, "图里有什么？", search="greedy", max_new_tokens=12).text  # noqa: E731
    same, larger = (load_chat(tiny_chat_folder, device="cpu", image_size=size) for size in (32, 64))
    assert ask(same) == ask(tiny_chat) != ask(larger)
    assert larger.backend.processor.pixel_values([noise]).shape[-1] == 64
    for size in (40, 0, 16 * 100):
        with pytest.raises(OptionError, match="multiple of 16"):
            load_chat(tiny_chat_folder, device="cpu", image_size=size)


def test_visualglm_reads_larger_pictures_too(tmp_path: Path) -> None:
    from tests.models.visualglm import tiny

    model, processor = tiny.model(), tiny.processor()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    side = 2 * model.config.vision_config.image_size
    chat = load_chat(tmp_path, device="cpu", image_size=side)
    pixels = chat.backend.processor.pixel_values([tiny.pictures()[0]])
    assert pixels.shape[-1] == side
    with torch.inference_mode():
        expected = model.get_image_features(pixels)
    torch.testing.assert_close(chat.backend.image_embeds(Picture(tiny.pictures()[0])), expected)
    assert chat.ask(tiny.pictures()[0], "你好", max_new_tokens=3).finish in ("stop", "length")


def test_other_libraries_scale_by_themselves(tmp_path: Path) -> None:
    from tests.chat.tiny_llava import save_tiny_llava

    with pytest.raises(ModelError, match="its own way"):
        load_chat(save_tiny_llava(tmp_path), device="cpu", image_size=64)


def test_on_the_command_line(tiny_chat_folder: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    from huayu.cli.main import main

    monkeypatch.setenv("HUAYU_LANG", "en")
    Image.effect_noise((90, 60), 90).convert("RGB").save(tmp_path / "noise.png")
    with pytest.raises(SystemExit) as stop:
        main(
            ["chat", str(tmp_path / "noise.png"), "图里有什么？", "--model", str(tiny_chat_folder), "--json", "--quiet",
             "--tiles", "2", "--second-look", "--image-size", "64", "--max-new-tokens", "4"]
        )  # fmt: skip
    assert not stop.value.code
    assert json.loads(capsys.readouterr().out)["prompt_tokens"] > 40
