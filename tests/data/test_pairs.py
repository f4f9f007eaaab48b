"""Every comparison of two pictures is true of both. The truth is read here from question and answer alone."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from huayu.data import pairs, world
from huayu.data.dialogues import Turn
from huayu.data.layouts import Scene, Thing, draw_scene
from huayu.data.pairs import pair_dialogue, partner
from tests.data.sprites_fixture import some_sprites

IDS = world.concept_ids()


def scene(*keys: str, ground: int = 0) -> Scene:
    return Scene(ground, tuple(Thing(IDS[key], 0, -1, 0.2 + 0.3 * i, 0.5, 0.3) for i, key in enumerate(keys)))


def said(first: Scene, second: Scene, language: str, times: int = 300) -> list[Turn]:
    rng = np.random.default_rng(3)
    return [turn for _ in range(times) for turn in pair_dialogue(rng, (first, second), language=language)]


def answer_to(pattern: str, turns: list[Turn]) -> set[str]:
    """All answers to questions like this."""
    found = {turn.answer for turn in turns if re.search(pattern, turn.question, re.IGNORECASE)}
    assert found, pattern
    return found


@pytest.mark.parametrize(("language", "which", "more", "ground", "first", "differ"), [
    ("en", "dog", "more", "same", "first (image|picture|one)", "compare|differ"),
    ("zh", "狗", "更多|东西多", "一样|相同", "第一张图?片?里都?有什么", "不同|区别|比较"),
])  # fmt: skip
def test_answers(language: str, which: str, more: str, ground: str, first: str, differ: str) -> None:
    dog, cars = scene("dog", ground=0), scene("car", "grapes", ground=1)
    turns = said(dog, cars, language)
    (one, _, _), (other, _, _) = world.BACKGROUNDS[0], world.BACKGROUNDS[1]
    one_zh, other_zh = world.BACKGROUNDS[0][1], world.BACKGROUNDS[1][1]
    en = language == "en"
    assert answer_to(which, turns) == {"The first picture has a dog." if en else "第一张图里有狗。"}
    assert answer_to(more, turns) == {"The second picture has more things." if en else "第二张图里的东西更多。"}
    assert answer_to(ground, turns) == {
        f"No, one is {one} and the other is {other}." if en else f"不一样，一张是{one_zh}的，另一张是{other_zh}的。"
    }
    told = "There is a dog in the picture." if en else "图里有一只狗。"
    assert told in answer_to(first, turns)
    assert answer_to(differ, turns) == {
        "The first picture shows a dog, and the second shows a car and some grapes."
        if en
        else "第一张图里有一只狗，第二张图里有一辆汽车和一串葡萄。"
    }


def test_both_neither_and_alike() -> None:
    two = said(scene("dog", ground=2), scene("dog", "cat", ground=2), "en")
    assert answer_to("dog", two) == {"Both pictures have a dog."}
    assert answer_to("same", two) == {f"Yes, both are {world.BACKGROUNDS[2][0]}."}
    assert any(turn.answer.startswith("Neither picture has") for turn in two)
    assert not any(re.search("any? (dog|cat)", turn.answer) for turn in two if turn.answer.startswith("Neither"))
    even = said(scene("dog"), scene("cat"), "zh")
    assert answer_to("更多|东西多", even) == {"两张图里的东西一样多。"}
    bread = said(scene("bread"), scene("dog"), "en")
    assert not any("cake" in turn.question for turn in bread), "bread could be called a cake"


def test_strangers_are_shown_but_never_asked_for() -> None:
    unknown = Scene(0, (Thing(world.OUTSIDE, 0, -1, 0.5, 0.5, 0.6),))
    turns = said(unknown, unknown, "en")
    which = {turn.answer for turn in turns if turn.answer.startswith(("The first picture has", "Both", "The second"))}
    assert which == {"Both pictures have the same number of things."}
    assert answer_to("compare|differ", turns) == {
        "The first picture shows something I do not know, and the second shows something I do not know."
    }


def test_pairs_often_have_something_in_common() -> None:
    rng, sprites = np.random.default_rng(0), some_sprites()
    common: Counter[str] = Counter()
    for _ in range(200):
        pool = [draw_scene(rng, sprites) for _ in range(8)]
        other = partner(rng, pool, 3)
        assert other != 3
        common["ground"] += pool[other].background == pool[3].background
        things = ({thing.concept for thing in pool[i].things} for i in (3, other))
        common["thing"] += bool(set.intersection(*things) - {world.OUTSIDE})
    assert common["ground"] > 40
    assert common["thing"] > 40


def test_turns_and_things_are_bounded_and_wordings_kept_apart() -> None:
    rng, sprites = np.random.default_rng(1), some_sprites()
    asked: dict[str, set[str]] = {"train": set(), "held": set()}
    for which, questions in asked.items():
        for _ in range(150):
            pool = (draw_scene(rng, sprites), draw_scene(rng, sprites))
            turns = pair_dialogue(rng, pool, max_turns=2, wordings=which)  # type: ignore[arg-type]
            assert 1 <= len(turns) <= 2
            assert {turn.skill for turn in turns} == {pairs.SKILL}
            assert not any("{" in turn.question + turn.answer for turn in turns)
            questions |= {turn.question.lower().rstrip("?.!？。！") for turn in turns}
    assert not asked["train"] & asked["held"]
    few = [turn for _ in range(100) for turn in pair_dialogue(rng, (scene("dog"), scene("cat")), things=2)]
    neither = {turn.answer for turn in few if turn.answer.startswith(("Neither", "两张图里都没有"))}
    assert not neither, "only dogs and cats are spoken of, and both are there"
