"""Asking a tiny real model: one path for all, pictures read once, equalities of streaming, batching and saving."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from huayu.chat import ChatModel, ChatOptions, Conversation, load_chat
from huayu.errors import ImageError, OptionError, OutOfMemory, PromptError

RED, BLUE = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (20, 50), "blue")
SEARCHES = [
    {"search": "greedy"},
    {"search": "sample", "temperature": 1.2, "top_k": 20, "top_p": 0.95, "min_p": 0.01, "seed": 5},
    {"search": "beam", "num_beams": 3, "temperature": 0.7, "repetition_penalty": 1.1, "length_penalty": 3.0},
]


@pytest.fixture
def reads(tiny_chat: ChatModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each call of the vision encoder was given; nothing is remembered from other tests."""
    backend, counts = tiny_chat.backend, []
    features = backend.model.get_image_features
    monkeypatch.setattr(backend, "_read", type(backend._read)())
    monkeypatch.setattr(backend.model, "get_image_features", lambda x: (counts.append(len(x)), features(x))[1])
    return counts


@pytest.mark.parametrize("search", SEARCHES, ids=lambda s: s["search"])
def test_streamed_is_whole(tiny_chat: ChatModel, search: dict) -> None:
    stream = tiny_chat.stream(RED, "图里有什么？", max_new_tokens=20, **search)
    pieces = list(stream)
    reply = tiny_chat.ask(RED, "图里有什么？", max_new_tokens=20, **search)
    assert "".join(pieces) == stream.reply.text == reply.text
    assert reply.text
    assert len(pieces) > 1
    assert reply.usage.completion_tokens == stream.reply.usage.completion_tokens > 0
    assert reply.usage.prompt_tokens > 4
    assert reply.conversation.turns[-1].answer == reply.text


@pytest.mark.parametrize("search", [SEARCHES[0], SEARCHES[2]], ids=lambda s: s["search"])
def test_batch_is_single(tiny_chat: ChatModel, search: dict) -> None:
    earlier = tiny_chat.ask(BLUE, "这是什么？", search="greedy").conversation
    requests = [
        (RED, "图里有什么？"),
        (None, "What is the colour of the sky?"),
        ([RED, BLUE], "龘龘 what is 龘龘 and 丂?"),
        (RED, "红苹果", earlier),
    ]
    batch = tiny_chat.ask_batch(requests, batch_size=3, max_new_tokens=15, **search)
    for reply, (picture, question, *conversation) in zip(batch, requests, strict=True):
        single = tiny_chat.ask(
            picture, question, conversation=next(iter(conversation), None), max_new_tokens=15, **search
        )
        assert reply.text == single.text
        assert reply.finish == single.finish
        assert reply.usage.completion_tokens == single.usage.completion_tokens


def test_each_picture_is_read_once(tiny_chat: ChatModel, reads: list[int]) -> None:
    first = tiny_chat.ask(RED, "这是什么？", max_new_tokens=3)
    second = tiny_chat.ask(None, "And the colour?", conversation=first.conversation, max_new_tokens=3)
    third = tiny_chat.ask([BLUE, RED.copy()], "这是什么？", conversation=second.conversation, max_new_tokens=3)
    assert reads == [1, 1]
    assert len(third.conversation.pictures) == 2
    assert [turn.num_pictures for turn in third.conversation.turns] == [1, 0, 1]
    assert len(first.conversation.turns) == 1


def test_the_picture_and_the_past_change_the_answer(tiny_chat: ChatModel) -> None:
    ask = lambda picture, past=None: tiny_chat.ask(  # noqa: E731
        picture, "这是什么？", conversation=past, search="greedy", max_new_tokens=20
    )
    red = ask(RED)
    assert ask(BLUE).text != red.text
    assert ask(None).text != red.text
    assert ask(None, red.conversation).text != red.text
    again = Conversation.from_json(red.conversation.to_json())
    assert ask(None, again).text == ask(None, red.conversation).text


def test_the_same_seed_draws_the_same(tiny_chat: ChatModel) -> None:
    import torch

    before = torch.random.get_rng_state()
    draw = lambda seed: tiny_chat.ask(RED, "图里有什么？", search="sample", seed=seed, max_new_tokens=20).text  # noqa: E731
    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(4)}) > 1
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("search", SEARCHES, ids=lambda s: s["search"])
def test_cancel_ends_the_pieces_and_keeps_what_came(tiny_chat: ChatModel, search: dict) -> None:
    whole = tiny_chat.ask(RED, "这是什么？", max_new_tokens=200, **search)
    stream = tiny_chat.stream(RED, "这是什么？", max_new_tokens=200, **search)
    shown = next(stream)
    stream.cancel()
    shown += "".join(stream)
    assert stream.reply.finish == "cancelled"
    assert stream.reply.text == shown
    assert whole.text.startswith(shown)
    assert stream.reply.usage.completion_tokens < whole.usage.completion_tokens


def test_close_before_the_first_piece_and_reply_too_early(tiny_chat: ChatModel) -> None:
    stream = tiny_chat.stream(RED, "这是什么？")
    with pytest.raises(RuntimeError, match="not complete"):
        _ = stream.reply
    stream.close()
    assert stream.reply.finish == "cancelled"
    assert stream.reply.text == ""


@pytest.mark.parametrize("search", SEARCHES, ids=lambda s: s["search"])
def test_stop_strings(tiny_chat: ChatModel, search: dict) -> None:
    whole = tiny_chat.ask(RED, "图里有什么？", max_new_tokens=30, **search).text
    stop = whole[4:6]
    cut = tiny_chat.ask(RED, "图里有什么？", max_new_tokens=30, stop=stop, **search)
    assert cut.text == whole[: whole.find(stop)]
    assert cut.finish == "stop"


def test_lengths(tiny_chat: ChatModel) -> None:
    reply = tiny_chat.ask(RED, "图里有什么？", search="greedy", max_new_tokens=2)
    assert reply.usage.completion_tokens == 2
    assert reply.finish == "length"


def test_user_text_is_only_text(tiny_chat: ChatModel) -> None:
    """A single `<` neither fails nor becomes a special token, now or as context of the next turn."""
    reply = tiny_chat.ask(RED, "1 < 2? <ans> <sep> <", max_new_tokens=4)
    assert tiny_chat.ask(None, "a < b", conversation=reply.conversation, max_new_tokens=4).text is not None
    plain = tiny_chat.backend.prepare(Conversation(), "x<sep>y").inputs.item
    assert 3 not in plain.input_ids[-20:]


def test_answers_show_no_special_tokens_and_no_doubled_brackets(tiny_chat: ChatModel) -> None:
    backend = tiny_chat.backend
    ids = backend.vocabulary.ids
    item = backend.prepare(Conversation(), "龘 丂").inputs.item
    unknown = next(token for token, text in item.answer_words.items() if text == "丂")
    tokens = [ids["<ans>"], ids["a"], ids["<"], ids["b"], ids["<sep>"], ids["<unk>"], unknown]
    assert backend._text(tokens, item) == "a<b龘丂"


def test_oldest_turns_are_dropped_whole_and_said(tiny_chat: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = None
    for _ in range(4):
        reply = tiny_chat.ask(None, "这是什么？", conversation=conversation, max_new_tokens=12)
        conversation = reply.conversation
    need = tiny_chat.ask(None, "红", conversation=conversation).usage.prompt_tokens
    monkeypatch.setattr(tiny_chat.backend, "max_prompt_tokens", need - 10)
    reply = tiny_chat.ask(None, "红", conversation=conversation)
    assert 1 <= reply.dropped_turns < 4
    assert len(reply.conversation.turns) == 5
    assert reply.usage.prompt_tokens <= need - 10


def test_a_prompt_that_alone_is_too_long(tiny_chat: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_chat.backend, "max_prompt_tokens", 40)
    with pytest.raises(PromptError, match=r"\d+ tokens.*40") as caught:
        tiny_chat.ask(RED, "红苹果" * 30)
    assert "40" in caught.value.zh


@pytest.mark.parametrize("question", ["", "  \n\t", "\u3000"])
def test_empty_questions(tiny_chat: ChatModel, question: str) -> None:
    with pytest.raises(PromptError, match="empty"):
        tiny_chat.ask(RED, question)


def test_errors_come_before_the_first_piece(tiny_chat: ChatModel) -> None:
    with pytest.raises(ImageError):
        tiny_chat.stream("nowhere.png", "a")
    with pytest.raises(OptionError, match="top_p"):
        tiny_chat.stream(RED, "a", search="beam", top_p=0.5)
    with pytest.raises(TypeError, match="beam_size"):
        tiny_chat.stream(RED, "a", beam_size=2)


def test_options_and_changes(tiny_chat: ChatModel) -> None:
    options = ChatOptions(search="greedy", max_new_tokens=9)
    assert tiny_chat.ask(RED, "红", options=options, max_new_tokens=2).usage.completion_tokens == 2


def test_a_full_device_is_one_sentence(tiny_chat: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def full(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(tiny_chat.backend.model, "forward", full)
    for search in SEARCHES:
        with pytest.raises(OutOfMemory, match="dtype"):
            tiny_chat.ask(None, "红", **search)


def test_a_model_that_understands_is_asked_in_words(tiny_chat: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    prepare = tiny_chat.backend.prepare

    def spy(conversation: Conversation, question: str):
        asked.append(question)
        return prepare(conversation, question)

    monkeypatch.setattr(tiny_chat.backend, "prepare", spy)
    monkeypatch.setattr(tiny_chat.backend, "follows_requests", True)
    reply = tiny_chat.ask(None, "这是什么？", answer_language="en", max_new_tokens=4)
    tiny_chat.ask(None, "这是什么？", answer_language="zh", max_new_tokens=4)
    assert asked == ["这是什么？Please answer in English.", "这是什么？"]
    assert reply.conversation.turns[0].question == "这是什么？"


@pytest.mark.parametrize("search", SEARCHES, ids=lambda s: s["search"])
def test_a_small_model_keeps_to_the_language_asked_for(tiny_chat: ChatModel, search: dict) -> None:
    import re

    for question in ("这是什么？", "What is this?"):
        chinese = tiny_chat.ask(RED, question, answer_language="zh", max_new_tokens=30, **search)
        english = tiny_chat.ask(RED, question, answer_language="en", max_new_tokens=30, **search)
        assert (chinese.language, english.language) == ("zh", "en")
        assert not re.search("[A-Za-z]", chinese.text)
        assert not re.search("[一-鿿。，？：]", english.text)
        assert english.conversation.turns[0].question == question


def test_traditional_questions_reach_the_model_as_simplified(tiny_chat: ChatModel) -> None:
    from huayu.chat.language import to_traditional

    simple = tiny_chat.ask(RED, "这是什么颜色？", search="greedy", max_new_tokens=30)
    traditional = tiny_chat.ask(RED, "這是什麼顏色？", search="greedy", max_new_tokens=30)
    assert traditional.text == to_traditional(simple.text)
    assert traditional.conversation.turns[0].question == "這是什麼顏色？"
    assert traditional.usage.prompt_tokens == simple.usage.prompt_tokens


def test_defaults_come_from_the_folder(tmp_path: Path) -> None:
    from tests.chat.tiny import save_tiny_chat

    beams = {"chat": {"search": "beam", "num_beams": 2, "temperature": 0.7, "max_new_tokens": 5}}
    folder = save_tiny_chat(tmp_path / "beams", generation=beams)
    assert load_chat(folder).backend.defaults == ChatOptions(**beams["chat"])
    assert load_chat(folder).ask(None, "红", search="greedy", max_new_tokens=2).usage.completion_tokens == 2
