"""Every turn of a dialogue is true of its scene. The truth is read here from the answer's words alone."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from huayu.data import answers, dialogues, questions, world
from huayu.data import wordings_unknown as unknowns
from huayu.data.dialogues import Turn, dialogue
from huayu.data.layouts import Scene, Thing, draw_scene, in_order
from tests.data.sprites_fixture import some_sprites

IDS = world.concept_ids()
YELLOW = next(i for i, row in enumerate(world.BACKGROUNDS) if row[0] == "yellow")
LONE_DOG = Scene(YELLOW, (Thing(IDS["dog"], 0, -1, 0.5, 0.5, 0.6),))
THREE = Scene(
    0,
    in_order(
        [
            Thing(IDS["dog"], 0, -1, 0.2, 0.5, 0.3),
            Thing(IDS["grapes"], 0, -1, 0.5, 0.2, 0.3),
            Thing(IDS["car"], 0, -1, 0.85, 0.8, 0.3),
        ]
    ),
)
FEW = 120  # things of a smaller world
STRANGER = Scene(2, (Thing(world.OUTSIDE, 0, -1, 0.5, 0.5, 0.6),))


def ask(scene: Scene | None, skill: str, language: str, seed: int = 0) -> Turn:
    return dialogue(np.random.default_rng(seed), scene, language=language, max_turns=1, weights={skill: 1})[0]


def many(scene: Scene | None = None, times: int = 400, **options: object) -> list[tuple[Scene | None, list[Turn]]]:
    rng, sprites = np.random.default_rng(11), some_sprites()
    made = []
    for _ in range(times):
        here = scene or draw_scene(rng, sprites)
        made.append((here, dialogue(rng, here, **options)))  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(
    ("scene", "skill", "zh", "en"),
    [
        (LONE_DOG, "name", "这是一只狗。", "This is a dog."),
        (LONE_DOG, "background", "背景是黄色的。", "The background is yellow."),
        (LONE_DOG, "count", "图里有一样东西。", "There is one thing."),
        (LONE_DOG, "category", "它是一种动物。", "It is an animal."),
        (LONE_DOG, "where", "它在图的中间。", "It is in the middle of the picture."),
        (LONE_DOG, "festival", "它和节日没有关系。", "It belongs to no festival."),
        (LONE_DOG, "style", "这是卡通画风。", "The picture is in cartoon style."),
        (LONE_DOG, "describe", "黄色的背景上有一只狗。", "There is a dog on a yellow background."),
        (THREE, "name", "图里有一只狗、一串葡萄和一辆汽车。", "There is a dog, some grapes and a car in the picture."),
        (THREE, "list", "图里有一只狗、一串葡萄和一辆汽车。", "There is a dog, some grapes and a car in the picture."),
        (THREE, "count", "图里有三样东西。", "There are three things."),
        (STRANGER, "name", "我不知道这是什么。", "I do not know what this is."),
        (None, "self", "我是画语，一个会看图说话的小模型。", "I am huayu, a small model that talks about pictures."),
        (None, "no-picture", "我没有看到图片。", "I do not see a picture."),
        (LONE_DOG, "unknown", "我不知道。", "I do not know."),
    ],
)
def test_answers(scene: Scene | None, skill: str, zh: str, en: str) -> None:
    assert ask(scene, skill, "zh").answer == zh
    assert ask(scene, skill, "en").answer == en


def concepts_in(text: str, language: str) -> set[int]:
    """Concept ids whose noun phrase stands in the answer."""
    found = set()
    for concept, entry in enumerate(world.CONCEPTS):
        pattern = rf"\b{re.escape(entry.phrase)}\b" if language == "en" else re.escape(f"一{entry.measure}{entry.zh}")
        if re.search(pattern, text):
            found.add(concept)
    nouns = {concept: answers.noun(concept, language) for concept in found}
    return {a for a in found if not any(a != b and nouns[a] in nouns[b] for b in found)}


def test_whatever_is_said_to_be_there_is_there() -> None:
    checked: Counter[str] = Counter()
    for scene, turns in many():
        assert scene is not None
        present = {t.concept for t in scene.things if t.concept != world.OUTSIDE}
        for turn in turns:
            named = concepts_in(turn.answer.removesuffix(" on an orange background."), turn.language)
            if turn.skill in ("name", "list", "describe"):
                assert named == present
            elif turn.skill == "place":
                assert named <= present
            elif turn.skill == "yesno":
                assert named <= present
                assert turn.answer.startswith(("有", "Yes") if named else ("没有", "No"))
            elif turn.skill == "background":
                assert world.BACKGROUNDS[scene.background][turn.language == "zh"] in turn.answer
            elif turn.skill == "count":
                word = answers.NUMBERS[turn.language][len(scene.things)]
                assert word in turn.answer.replace("样", " ")
            checked[turn.skill] += 1
    assert min(checked[skill] for skill in ("name", "place", "yesno", "background", "count", "list", "describe")) > 20


def test_no_is_only_said_of_what_is_absent_and_not_alike() -> None:
    negatives = 0
    for scene, turns in many(weights={"yesno": 1}, max_turns=1, times=500):
        assert scene is not None
        present = {world.CONCEPTS[t.concept].key for t in scene.things if t.concept != world.OUTSIDE}
        for turn in turns:
            absent = [
                c.key
                for c in world.CONCEPTS
                if turn.answer in (f"没有，图里没有{c.zh}。", f"No, there is no {c.en}.", f"No, there are no {c.en}.")
            ]
            if not absent:
                continue
            negatives += 1
            assert absent[0] not in present
            assert not any(absent[0] in group and group & present for group in world.ALIKE)
    assert 150 < negatives < 350


def test_sides_and_plurals() -> None:
    seen = {
        (turn.question.rstrip("?？.。 "), turn.answer)
        for seed in range(200)
        for turn in [ask(THREE, "place", "en" if seed % 2 else "zh", seed)]
    }
    said = {answer for _, answer in seen}
    assert said == {
        "左边是一只狗。",
        "右边是一辆汽车。",
        "上面是一串葡萄。",
        "下面是一辆汽车。",
        "There is a dog on the left.",
        "There is a car on the right.",
        "There are some grapes at the top.",
        "There is a car at the bottom.",
    }


def test_it_means_the_thing_just_spoken_of() -> None:
    pronoun = re.compile(r"它|\bit\b|\bit'|这能|这个|^(能|可以)吃吗|^(this|is this)", re.IGNORECASE)
    followed = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        turns = dialogue(rng, THREE, language="zh", weights={"place": 1, "category": 1, "edible": 1})
        for before, turn in pairwise(turns):
            if turn.skill == "category" and before.skill == "place" and pronoun.search(turn.question):
                kind = "水果" if "葡萄" in before.answer else "动物" if "狗" in before.answer else "交通工具"
                assert turn.answer == f"它是一种{kind}。"
                followed += 1
        if turns[0].skill in ("category", "edible"):
            assert not pronoun.search(turns[0].question)
    assert followed > 20


def test_food_can_be_eaten_and_cars_cannot() -> None:
    for key, zh, en in (
        ("banana", "能，它可以吃。", "Yes, it can be eaten."),
        ("car", "不能，它不可以吃。", "No, it cannot be eaten."),
    ):
        assert answers.edible(IDS[key], "zh") == zh
        assert answers.edible(IDS[key], "en") == en
    contested = Scene(0, (Thing(IDS["pig"], 0, -1, 0.5, 0.5, 0.6),))
    turns = [ask(contested, "edible", "zh", seed) for seed in range(40)]
    assert not any("猪" in turn.question or "它" in turn.question for turn in turns)  # only others are asked about


def test_uses_and_festivals() -> None:
    assert answers.use(IDS["umbrella"], "zh") == "它可以用来挡雨。"
    assert answers.use(IDS["umbrella"], "en") == "It is used for keeping off the rain."
    assert answers.festival(IDS["mooncake"], "zh") == "它和中秋节有关。"
    assert answers.festival(IDS["mooncake"], "en") == "It belongs to the Mid-Autumn Festival."
    lantern = Scene(0, (Thing(IDS["lantern"], 0, -1, 0.5, 0.5, 0.6),))
    followed = 0
    for seed in range(60):
        turns = dialogue(np.random.default_rng(seed), lantern, language="zh", weights={"name": 1, "use": 1})
        for turn in turns[1:]:
            followed += turn.answer == "它可以用来照明。"
            assert turn.skill != "use" or turn.answer == "它可以用来照明。" or "灯笼" not in turn.question
    assert followed > 10, "it is the lantern"
    assert answers.use(IDS["banana"], "zh") == "它可以用来吃。"
    assert answers.use(IDS["banana"], "en") == "It is used for eating."
    of_dogs = [
        turn.answer for turn in (ask(LONE_DOG, "use", "zh", seed) for seed in range(40)) if "它" in turn.question
    ]
    assert len(of_dogs) > 3
    assert set(of_dogs) == {"它没有特定的用途。"}


def test_a_picture_in_several_styles_has_no_style() -> None:
    mixed = Scene(0, (Thing(IDS["dog"], 0, -1, 0.2, 0.5, 0.3), Thing(IDS["cat"], 2, -1, 0.8, 0.5, 0.3)))
    with pytest.raises(ValueError, match="style"):
        dialogue(np.random.default_rng(0), mixed, weights={"style": 1})


def test_only_known_things_are_spoken_of() -> None:
    late = [name for c in world.CONCEPTS[FEW:] for name in (c.zh, c.en) if len(name) > 1]
    said = " ".join(
        turn.question + turn.answer
        for _, turns in many(weights={"yesno": 1, "category": 1, "edible": 1, "festival": 1}, things=FEW)
        for turn in turns
    )
    assert not [name for name in late if re.search(rf"\b{name}\b" if name.isascii() else name, said)]


def test_languages() -> None:
    for _, turns in many(language="zh", times=60):
        assert {t.language for t in turns} == {"zh"}
        assert all(re.search("[\u4e00-\u9fff]", t.question) for t in turns)
    for _, turns in many(language="en", times=60):
        assert not any(re.search("[\u4e00-\u9fff]", t.question + t.answer) for t in turns)
    assert any(len({t.language for t in turns}) == 2 for _, turns in many(language="mixed", times=60))
    assert {t.language for _, turns in many(times=60) for t in turns} == {"zh", "en"}


def test_no_place_holder_is_left_and_no_turn_is_empty() -> None:
    for which in ("train", "held"):
        for scene, turns in many(wordings=which, times=300):
            for turn in [*turns, *dialogue(np.random.default_rng(len(turns)), None, wordings=which)]:
                assert "{" not in turn.question + turn.answer, scene
                assert turn.question.strip()
                assert turn.answer[-1] in "。.！!"


def test_held_wordings_are_never_trained_on() -> None:
    def bare(text: str) -> str:
        return text.lower().rstrip("?.!？。！")

    for skill, table in questions.HELD.items():
        for language in ("zh", "en"):
            trained = {bare(text) for text in questions.TRAIN[skill][language]}
            assert not trained & {bare(text) for text in table[language]}
            assert len(trained) >= 10
            assert table[language]
    for language in ("zh", "en"):
        assert not set(unknowns.UNKNOWN[language]) & set(unknowns.UNKNOWN_HELD[language])
        assert not set(unknowns.NOUNS[language]) & set(unknowns.NOUNS_HELD[language])
        known = {n for c in world.CONCEPTS for n in (c.zh, c.en, *c.aliases_zh, *c.aliases_en)}
        assert not known & {*unknowns.NOUNS[language], *unknowns.NOUNS_HELD[language]}


def test_politeness_never_makes_a_held_wording() -> None:
    rng, asked = np.random.default_rng(4), Counter[str]()
    asker = questions.Asker(rng, "train")
    for kind, table in questions.HELD.items():
        for language in ("zh", "en"):
            said = {asker.polite(text, kind, language) for text in questions.TRAIN[kind][language] for _ in range(60)}
            assert not said & set(table[language])
            asked.update(text.split("{")[0][:6] for text in said - set(questions.TRAIN[kind][language]))
    assert {"Please", "请问它是什么", "请描述一下这"} <= set(asked), asked


def test_weights_choose_the_skills_and_turns_are_bounded() -> None:
    for _, turns in many(weights={"name": 1, "background": 3}, max_turns=2, times=80):
        assert {t.skill for t in turns} <= {"name", "background"}
        assert 1 <= len(turns) <= 2
    with pytest.raises(ValueError, match="place"):
        dialogue(np.random.default_rng(0), None, weights={"place": 1})
    assert set(dialogues.WEIGHTS) >= {"name", "place", "yesno", "unknown", "self"}


def test_the_same_seed_says_the_same() -> None:
    first, again = (dialogue(np.random.default_rng(5), THREE) for _ in range(2))
    assert first == again
