"""Reading answers for the things they name, and taking some out again."""

from __future__ import annotations

import pytest

from huayu.chat.second_look import judged, to_confirm, without
from huayu.chat.things import question_whether, things_in


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("图里有一头猪、一棵圣诞树和一样我不认识的东西。", ["pig", "christmastree"]),
        ("There is a Christmas tree, a bell, some grapes and something I do not know.", "christmastree bell grapes"),
        ("左边是狗，右边是一只黑色的大猫。", ["dog", "cat"]),
        ("图里有一棵树（左上方）和猪（上方、右边）。", ["tree", "pig"]),
        ("There is no cat, but two brown horses.", ["horse"]),
        ("没有，图里没有狗。", []),
        ("No, there is no dog.", []),
        ("我很开心，马上出门。", []),
        ("它是一种动物。", []),
        ("It is an animal.", []),
        ("There are three things in the picture.", []),
        ("A parrot sits on a wooden chair.", ["parrot", "chair"]),
        ("I see:\n- table\n- a red lamp", ["table", "bulb"]),
        ("图中有一个穿着红衣服的女人坐在一张长椅上。", ["穿着红衣服的女人", "长椅"]),
    ],
)
def test_what_an_answer_says_there_is(text: str, keys: list[str] | str) -> None:
    found = things_in(text)
    assert [thing.key for thing in found] == (keys.split() if isinstance(keys, str) else keys)
    assert all(text[thing.start : thing.end] == thing.words for thing in found)


@pytest.mark.parametrize(
    ("text", "small", "large"),
    [
        ("图里有一只黑色的大猫。", "图里有猫吗？", "图里有黑色的大猫吗？"),
        ("A small black puppy runs.", "Is there a dog in the picture?", "Is there a small black puppy in the picture?"),
        ("There are some grapes.", "Are there any grapes in the picture?", "Are there any grapes in the picture?"),
        ("There is some bread.", "Is there any bread in the picture?", "Is there any bread in the picture?"),
        ("I see:\n- owl\n- dogs", "Is there an owl in the picture?", "Is there an owl in the picture?"),
    ],
)
def test_the_question_about_a_thing(text: str, small: str, large: str) -> None:
    thing = things_in(text)[0]
    language = "zh" if "图" in text else "en"
    assert question_whether(thing, language, small=True) == small
    assert question_whether(thing, language, small=False) == large


@pytest.mark.parametrize(
    ("text", "denied", "left"),
    [
        ("图里有一头猪、一棵圣诞树和一只狗。", "pig", "图里有一棵圣诞树和一只狗。"),
        ("图里有一头猪、一棵圣诞树和一只狗。", "dog", "图里有一头猪和一棵圣诞树。"),
        ("图里有一样我不认识的东西和一只狗。", "dog", "图里有一样我不认识的东西。"),
        ("There is a bell, a dog and some grapes in the picture.", "bell dog", "There are some grapes in the picture."),
        ("There are some grapes and a dog on a red background.", "grapes", "There is a dog on a red background."),
        ("There is a dog and a cat on a red background.", "cat", "There is a dog on a red background."),
        ("左边是狗，右边是一只猫。", "dog", "右边是一只猫。"),
        ("A dog is on the left and a cat is on the right.", "dog", "A cat is on the right."),
        ("A dog chases a cat. The sky is blue.", "cat", "A dog chases something. The sky is blue."),
        ("There is a dog. It is 3.5 m long.", "dog", "It is 3.5 m long."),
        ("I see:\n1. table\n2. chairs\n3. a lamp", "chair", "I see:\n1. table\n2. a lamp"),
        ("这是一只狗。", "cat", "这是一只狗。"),
        ("没有，图里没有狗。", "dog", "没有，图里没有狗。"),
    ],
)
def test_what_is_denied_leaves_cleanly(text: str, denied: str, left: str) -> None:
    assert without(text, denied.split()) == left


@pytest.mark.parametrize("text", ["这是一只狗。", "This is a dog."])
def test_when_nothing_is_left_it_says_so(text: str) -> None:
    left = without(text, ["dog"])
    assert "狗" not in left
    assert "dog" not in left
    assert len(left) > 10


def test_a_yes_about_something_else_is_no_for_a_small_model() -> None:
    thing = things_in("这是一只猫。")[0]
    assert judged(thing, "有，图里有一只狗。", "zh", small=True).there is False
    assert judged(thing, "有，图里有一只狗。", "zh", small=False).there is True
    assert judged(thing, "我不知道。", "zh", small=True).there is None


def test_each_thing_is_asked_about_once() -> None:
    assert [thing.words for thing in to_confirm("A dog, a cat and a puppy.")] == ["A dog", "a cat"]
