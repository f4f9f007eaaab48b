"""The task "mini-chat": what it asks, how it scores, that follow-ups go on from the model's own answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from huayu import evaluation
from huayu.chat import ChatModel
from huayu.errors import ModelError
from huayu.evaluation.mini_chat import Asked, ask, markdown, scores
from huayu.evaluation.plans import LANGUAGES, ONE_PICTURE, SKILLS, SPLITS, Taught, plans
from tests.data.sprites_fixture import some_sprites


def test_every_kind_is_asked_in_every_split_and_language() -> None:
    made = list(plans(some_sprites(), 1))
    kinds = [*SKILLS, "new wording", "follow-up", "outside", "no answer"]
    assert {(p.kind, p.split, p.language) for p in made} == {
        (k, s, g) for k in kinds for s in SPLITS for g in LANGUAGES if k != "style" or s == "train"
    }
    assert all(len(p.turns) > 1 for p in made if p.kind == "follow-up")
    assert all(thing.concept < 0 for p in made if p.kind == "outside" for thing in p.pictures[0].scene.things)
    assert {len(p.pictures) for p in made if p.kind == "compare"} == {2}
    again = list(plans(some_sprites(), 1))
    assert [p.turns for p in made] == [p.turns for p in again], "the same questions for every model"


def test_a_model_is_asked_what_it_was_taught() -> None:
    lacks = {"use", "festival", "compare"}
    made = list(plans(some_sprites(), 1, taught=Taught(60, tuple(lacks))))
    assert lacks <= set(SKILLS)
    assert not lacks & ({p.kind for p in made} | {t.skill for p in made for t in p.turns})
    assert all(thing.concept < 60 for p in made for picture in p.pictures for thing in picture.scene.things)
    one = list(plans(some_sprites(), 1, taught=ONE_PICTURE))
    assert all(len(p.pictures) == 1 for p in one), "that architecture looks at one picture"
    assert {p.kind for p in one} >= lacks - {"compare"}


def test_dialogues_go_on_from_the_models_own_answers(tiny_chat: ChatModel) -> None:
    group = [p for p in plans(some_sprites(), 1) if p.kind == "follow-up"][:3]
    asked = ask(tiny_chat, group)
    assert len(asked) == sum(len(p.turns) for p in group)
    assert {a.question for a in asked} == {t.question for p in group for t in p.turns}


def test_scores_count_exact_answers_and_their_language() -> None:
    def row(answer: str, truth: str = "这是狗。", kind: str = "name", turn: int = 0) -> list[Asked]:
        return [Asked(kind, s, g, turn, "?", truth, answer) for s in SPLITS for g in LANGUAGES]

    figures = scores(
        [*row("这是狗。"), *row("我不知道。"), *row("x", kind="follow-up"), *row("这是狗。", kind="follow-up", turn=1)]
    )
    assert figures["name"]["test"]["zh"] == 0.5
    assert figures["false do-not-know"]["train"]["zh"] == 0.5
    assert figures["follow-up"]["choose"]["en"] == 1.0, "the first turn of a follow-up does not count"
    assert figures["answer language"]["train"] == {"zh": 1.0, "en": 0.0}
    assert "| name | 50 % |" in markdown(figures)


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No task 'coco'"):
        evaluation.run("coco")
