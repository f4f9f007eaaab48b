"""The figures of more than one look: how they are counted, and on what."""

from __future__ import annotations

from huayu.chat import ChatModel
from huayu.evaluation import beyond
from tests.chat.eye import Eye


def test_precision_and_recall_are_over_all_scenes() -> None:
    found, truth = [{"dog", "cat"}, set()], [{"dog"}, {"car", "tree"}]
    assert beyond.precision_recall(found, truth) == (1 / 2, 1 / 3, 2, 3)
    assert beyond.precision_recall([set()], [set()]) == (0.0, 0.0, 0, 0)


def test_what_answers_name() -> None:
    replies = ChatModel(Eye()).ask_batch([(None, "图里都有什么？")])
    assert beyond.named(replies) == [set()]


def test_wrong_characters() -> None:
    assert [beyond._distance("abc", other) for other in ("abc", "ac", "abxc", "", "xyz")] == [0, 1, 1, 3, 3]


def test_the_table_has_a_cell_for_each_figure() -> None:
    figures = [
        beyond.Figure("tiles", "one look", "train", "zh", "recall", 0.25, 8),
        beyond.Figure("tiles", "one look", "test", "en", "recall", 0.5, 4),
        beyond.Figure("reading", "drawn words", "", "en", "characters right", 1.0, 9),
    ]
    lines = beyond.markdown(figures).splitlines()
    assert lines[0] == "| part | case | measure | train zh | test en | en |"
    assert lines[2:] == [
        "| tiles | one look | recall | 25 % (8) | 50 % (4) |  |",
        "| reading | drawn words | characters right |  |  | 100 % (9) |",
    ]
