"""The models in the package, as a user meets them: asked in Chinese they answer in Chinese, in English in English."""

from __future__ import annotations

from pathlib import Path

import pytest

from huayu import embedded
from huayu.chat import ChatModel, load_chat
from huayu.chat.language import is_foreign, is_traditional, to_traditional

PICTURE = Path(__file__).resolve().parents[2] / "examples" / "dog.png"
MODELS = [name for name, kind in embedded.EMBEDDED.items() if kind == "chat"]

CHINESE = ("图里有什么？", "背景是什么颜色？", "图里有几样东西？", "描述一下这张图片。", "图里有狗吗？")
ENGLISH = ("What is in the picture?", "What colour is the background?", "How many things are there?", "Describe it.")


@pytest.fixture(scope="module", params=MODELS)
def mini(request: pytest.FixtureRequest) -> ChatModel:
    if not (embedded.folder(request.param) / "config.json").is_file():
        pytest.skip("a source tree without the shipped weights")
    return load_chat(request.param, device="cpu")


def test_the_first_is_the_default() -> None:
    assert embedded.default("chat") == MODELS[0] == "huayu-chat-mini"


def test_it_sees_what_is_there(mini: ChatModel) -> None:
    assert mini.ask(PICTURE, "这是什么？").text == "这是一只狗。"
    assert mini.ask(PICTURE, "What is this?").text == "This is a dog."


@pytest.mark.parametrize("question", [*CHINESE, *ENGLISH])
def test_answers_come_in_the_language_of_the_question(mini: ChatModel, question: str) -> None:
    reply = mini.ask(PICTURE, question)
    assert reply.language == ("zh" if question in CHINESE else "en")
    assert reply.text.strip()
    assert reply.finish == "stop"


def test_both_languages_in_one_conversation(mini: ChatModel) -> None:
    conversation = None
    for question, language in zip(CHINESE + ENGLISH, ["zh"] * len(CHINESE) + ["en"] * len(ENGLISH), strict=True):
        reply = mini.ask(PICTURE, question, conversation=conversation)
        conversation = reply.conversation
        assert reply.language == language
    assert len(conversation.pictures) == 1


@pytest.mark.parametrize("search", ["greedy", "sample", "beam"])
def test_an_answer_holds_nothing_of_the_language_not_asked_for(mini: ChatModel, search: str) -> None:
    english = mini.ask(PICTURE, "图里有什么？", answer_language="en", search=search)
    chinese = mini.ask(PICTURE, "What is in the picture?", answer_language="zh", search=search)
    assert not is_foreign(english.text, "en")
    assert not is_foreign(chinese.text, "zh")
    if search != "sample":  # a draw may be a mere full stop: the model never learned to change the language
        assert (english.language, chinese.language) == ("en", "zh")


def test_traditional_questions_are_answered_in_traditional(mini: ChatModel) -> None:
    simplified, traditional = mini.ask(PICTURE, "背景是什么颜色？"), mini.ask(PICTURE, "背景是什麼顏色？")
    assert is_traditional("背景是什麼顏色？")
    assert traditional.text == to_traditional(simplified.text)


def test_it_searches_greedily(mini: ChatModel) -> None:
    assert mini.backend.defaults.search == "greedy"
    assert mini.ask(PICTURE, CHINESE[0]).text == mini.ask(PICTURE, CHINESE[0], search="greedy").text
