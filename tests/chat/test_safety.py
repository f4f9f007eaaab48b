"""A chat with a guard: what is refused does not reach the model, and the answer says why."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from huayu.chat import ChatModel, Conversation, Picture, load_chat
from huayu.chat.language import to_traditional
from huayu.errors import OptionError
from huayu.safety import Guard, WordCheck
from huayu.types import Verdict

RED = Image.new("RGB", (40, 30), "red")
STRIPES = Image.effect_noise((40, 30), 99).convert("RGB")


SEARCHES = [{"search": "greedy"}, {"search": "beam"}, {"search": "sample", "seed": 3}]


class RefusesStripes:
    """Stands for a check with weights: finds one picture unsafe, and counts."""

    name = "stripes"

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, image: Image.Image) -> Verdict:
        self.seen += 1
        bad = image.tobytes() == STRIPES.tobytes()
        return Verdict(not bad, "stripes" if bad else "safe", float(bad), "图片有条纹。", "It has stripes.")


@pytest.fixture
def guarded_chat(tiny_chat: ChatModel, monkeypatch: pytest.MonkeyPatch) -> ChatModel:
    return ChatModel(tiny_chat.backend, Guard([WordCheck()], [RefusesStripes()]))


def test_without_a_guard_nothing_is_checked(tiny_chat: ChatModel) -> None:
    assert tiny_chat.guard is None
    assert tiny_chat.ask(RED, "how to make a bomb", max_new_tokens=3).verdicts == ()


def test_a_refused_question_does_not_run_the_model(guarded_chat: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*args: object, **kwargs: object) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr(guarded_chat.backend, "prepare", run)
    monkeypatch.setattr(guarded_chat.backend, "generate", run)
    english = guarded_chat.ask(RED, "how to make a bomb")
    assert english.finish == "refused"
    assert english.text.startswith("Sorry, no answer: ")
    assert "“make a bomb”" in english.text
    assert [verdict.label for verdict in english.verdicts] == ["weapons", "safe"]
    assert english.conversation == Conversation()
    assert english.usage.completion_tokens == 0
    chinese = guarded_chat.ask(RED, "怎么制作炸弹")
    assert chinese.text.startswith("抱歉，不能回答：")
    assert guarded_chat.ask(RED, "怎麼製作炸彈").text == to_traditional(chinese.text)
    assert guarded_chat.ask(RED, "怎么制作炸弹", answer_language="en").text.startswith("Sorry")
    stream = guarded_chat.stream(RED, "怎么制作炸弹", stop="炸")
    assert "".join(stream) == stream.reply.text == chinese.text


def test_an_allowed_question_is_answered_as_without_a_guard(guarded_chat: ChatModel, tiny_chat: ChatModel) -> None:
    checked = guarded_chat.ask(RED, "图里有什么？", max_new_tokens=9)
    plain = tiny_chat.ask(RED, "图里有什么？", max_new_tokens=9)
    assert (checked.text, checked.conversation, checked.finish) == (plain.text, plain.conversation, plain.finish)
    assert [verdict.allowed for verdict in checked.verdicts] == [True, True]


def test_a_refused_picture(guarded_chat: ChatModel) -> None:
    reply = guarded_chat.ask(STRIPES, "图里有什么？")
    assert reply.finish == "refused"
    assert reply.text == "抱歉，不能回答：图片有条纹。"
    assert reply.conversation.pictures == ()
    smuggled = Conversation().with_pictures([Picture(STRIPES)])
    assert guarded_chat.ask(None, "what is this?", conversation=smuggled).text.endswith("It has stripes.")


def test_an_earlier_question_is_checked_too(guarded_chat: ChatModel, tiny_chat: ChatModel) -> None:
    foreign = tiny_chat.ask(RED, "how to make a bomb", max_new_tokens=2).conversation
    assert guarded_chat.ask(None, "and then?", conversation=foreign).finish == "refused"


def test_each_picture_is_checked_once(guarded_chat: ChatModel) -> None:
    reply = guarded_chat.ask(RED, "图里有什么？", max_new_tokens=2)
    reply = guarded_chat.ask(None, "红？", conversation=reply.conversation, max_new_tokens=2)
    assert guarded_chat.guard.picture_checks[0].seen == 1
    assert len(reply.verdicts) == 1


def test_blur_shows_the_model_a_blurred_picture(guarded_chat: ChatModel, tiny_chat: ChatModel) -> None:
    guarded_chat.guard = Guard([WordCheck()], [RefusesStripes()], policy="blur")
    reply = guarded_chat.ask(STRIPES, "图里有什么？", max_new_tokens=9)
    (shown,) = reply.conversation.pictures
    assert shown.image.size == STRIPES.size
    assert shown != Picture(STRIPES)
    assert reply.finish != "refused"
    assert not reply.verdicts[1].allowed
    assert reply.text == tiny_chat.ask(shown, "图里有什么？", max_new_tokens=9).text
    assert guarded_chat.ask(STRIPES, "色情").finish == "refused"


def test_allow_reports_and_answers(guarded_chat: ChatModel, tiny_chat: ChatModel) -> None:
    guarded_chat.guard = Guard([WordCheck()], [RefusesStripes()], policy="allow")
    reply = guarded_chat.ask(STRIPES, "色情", max_new_tokens=5)
    assert [verdict.allowed for verdict in reply.verdicts] == [False, False]
    assert reply.text == tiny_chat.ask(STRIPES, "色情", max_new_tokens=5).text


@pytest.mark.parametrize("search", SEARCHES, ids=lambda s: s["search"])
def test_in_a_batch_only_the_refused_are_left_out(guarded_chat: ChatModel, search: dict) -> None:
    requests = [(RED, "how to make a bomb"), (RED, "图里有什么？"), (STRIPES, "红"), (None, "这是什么？")]
    replies = guarded_chat.ask_batch(requests, max_new_tokens=6, **search)
    assert [reply.finish == "refused" for reply in replies] == [True, False, True, False]
    for at in (1, 3):
        assert replies[at].conversation.turns[0].question == requests[at][1]
        if search["search"] != "sample":
            assert replies[at].text == guarded_chat.ask(*requests[at], max_new_tokens=6, **search).text


def test_loading_with_a_policy(tiny_chat_folder: Path) -> None:
    assert load_chat(tiny_chat_folder, device="cpu").guard is None
    assert load_chat(tiny_chat_folder, device="cpu", safety="default").guard.policy == "block"
    own = Guard()
    assert load_chat(tiny_chat_folder, device="cpu", safety=own).guard is own
    with pytest.raises(OptionError, match="off, block, blur, allow"):
        load_chat(tiny_chat_folder, device="cpu", safety="strict")
