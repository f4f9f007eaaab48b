"""Traditional Chinese and wishes for the answer's language."""

from __future__ import annotations

import pytest

from huayu.chat.language import (
    TraditionalStream,
    is_traditional,
    language_of_answer,
    to_simplified,
    to_traditional,
    with_language_request,
)


@pytest.mark.parametrize(
    ("text", "sure"),
    [
        ("這幅圖像是什麼？", True),
        ("What is 這個", True),
        ("这幅图像是什么？", False),
        ("圖里有什么", False),  # mixed
        ("你好", False),  # the same in both
        ("What is it?", False),
        ("", False),
    ],
)
def test_surely_traditional(text: str, sure: bool) -> None:
    assert is_traditional(text) is sure


def test_there_and_back() -> None:
    assert to_simplified("圖片裡有一隻貓。") == "图片里有一只猫。"
    assert to_traditional("天空是什么颜色？") == "天空是什麼顏色？"
    assert to_simplified("Hello <b>") == "Hello <b>"


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_stream_is_the_same_however_it_is_cut(size: int) -> None:
    text = "她的头发很长，出发了。This is 发 a 面条 ok，皇后在后面"
    stream = TraditionalStream()
    shown = [stream.feed(text[i : i + size]) for i in range(0, len(text), size)]
    assert "".join(shown) + stream.flush() == to_traditional(text)
    assert "頭髮" in to_traditional(text)
    assert "出發" in to_traditional(text)


def test_language_of_an_answer() -> None:
    assert language_of_answer("红色。", "What colour?") == "zh"
    assert language_of_answer("Red.", "什么颜色？") == "en"
    assert language_of_answer("3", "有几个？") == language_of_answer("", "有几个？") == "zh"
    assert language_of_answer("3.", "How many?") == "en"


def test_the_request_is_added_only_when_languages_differ() -> None:
    assert with_language_request("这是什么？", "auto") == "这是什么？"
    assert with_language_request("这是什么？", "zh") == "这是什么？"
    assert with_language_request("这是什么？", "en") == "这是什么？Please answer in English."
    assert with_language_request("What is it?", "zh") == "What is it? 请用中文回答。"
    assert with_language_request("What is it?", "en") == "What is it?"
