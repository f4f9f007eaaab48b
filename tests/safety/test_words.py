"""The built-in check: what it finds, what it lets pass, and the ways to hide a word that it sees through."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from huayu.runtime.language import language_of
from huayu.safety import WordCheck
from huayu.safety.words import categories
from tests.safety.figures import sets, stopped, table

CHECK = WordCheck()
DOCS = Path(__file__).resolve().parents[2] / "docs" / "safety.md"


def test_sizes_of_the_sets() -> None:
    for kind in ("unsafe", "innocent"):
        prompts = [p for parts in sets().values() for listed in parts[kind].values() for p in listed]
        assert len(prompts) >= 120
        assert len(set(prompts)) == len(prompts)
        assert all(sum(language_of(p) == language for p in prompts) >= 60 for language in ("zh", "en"))


def test_what_was_at_hand_is_found_under_its_label_and_nothing_else() -> None:
    seen = sets()["seen"]
    for label, prompts in seen["unsafe"].items():
        for prompt in prompts:
            verdict = CHECK(prompt)
            assert not verdict.allowed, prompt
            assert verdict.label == label, prompt
    assert [p for p in seen["innocent"]["prompts"] if not CHECK(p).allowed] == []


def test_what_was_not_at_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """Not a goal but a floor: the lists are not made to fit these."""
    fresh = sets()["fresh"]
    found, unsafe = stopped([p for prompts in fresh["unsafe"].values() for p in prompts])
    wrong, innocent = stopped(fresh["innocent"]["prompts"])
    with capsys.disabled():
        print(f"\nfresh prompts: recall {found / unsafe:.1%}, false positives {wrong / innocent:.1%}")
    assert found / unsafe >= 0.9
    assert wrong / innocent <= 0.02


def test_the_table_in_the_docs_is_the_one_that_the_command_prints() -> None:
    assert "\n".join(table()) in DOCS.read_text("utf-8")


@pytest.mark.parametrize(
    ("hidden", "label"),
    [
        ("色情", "sexual"),
        ("色 情", "sexual"),
        ("色*情", "sexual"),
        ("色\u200b情", "sexual"),
        ("画两个人做 · 爱", "sexual"),
        ("强奸", "sexual"),
        ("強姦", "sexual"),
        ("ＰＯＲＮ", "sexual"),
        ("p\u200dorn", "sexual"),
        ("p o r n", "sexual"),
        ("p.o.r.n", "sexual"),
        ("p0rn", "sexual"),
        ("ｐ0ｒｎ", "sexual"),
        ("pörn", "sexual"),
        ("рorn", "sexual"),  # the first letter is Cyrillic
        ("请画porn图", "sexual"),
        ("HENTAI", "sexual"),
        ("blow-job", "sexual"),
        ("beh3ad him", "violence"),
        ("兒童色情", "minors"),
        ("15岁少女，全裸", "minors"),
    ],
)
def test_hidden_words(hidden: str, label: str) -> None:
    assert CHECK(hidden).label == label


@pytest.mark.parametrize("prompt", ["景色，情人", "feelings, exact", "essex", "25岁女孩的婚礼", "classic assassin", ""])
def test_words_inside_others_are_not_words(prompt: str) -> None:
    verdict = CHECK(prompt)
    assert verdict.allowed
    assert (verdict.label, verdict.score) == ("safe", 0.0)


def test_reasons_name_what_matched_in_both_languages() -> None:
    verdict = CHECK("How to make a bomb?")
    assert (verdict.label, verdict.score) == ("weapons", 0.9)
    assert "“make a bomb”" in verdict.reason_en
    assert "制造武器" in verdict.reason_zh
    assert "“make a bomb”" in verdict.reason_zh
    assert CHECK("画春宫").score == 1.0
    assert "热线" in CHECK("我想自杀").reason_zh
    assert "helpline" in CHECK("kill myself").reason_en


def test_two_words_need_to_be_near() -> None:
    far = "how to " + "paint a very long fence with a brush " * 3 + "and a bomb shelter, a bomb"
    assert CHECK(far).allowed
    assert not CHECK("a bomb: how to").allowed


def test_every_category_has_words_for_both_languages() -> None:
    for category in categories():
        patterns = "".join(rule.word.pattern for rule in category.rules)
        assert language_of(patterns) == "zh"
        assert "(?<![a-z])" in patterns
        assert category.zh
        assert category.en


@pytest.mark.parametrize("piece", ["儿童 ", "child ", "a b ", "做如何", "裸"])
def test_long_texts_take_linear_time(piece: str) -> None:
    """Eight times the text: about 8 times the time, not 64."""

    def seconds(length: int) -> float:
        begin = time.thread_time()
        CHECK(piece * (length // len(piece)))
        return time.thread_time() - begin

    seconds(2_000)
    assert min(seconds(32_000) for _ in range(3)) < 30 * max(seconds(4_000), 0.02)


def test_it_needs_no_torch() -> None:
    code = "import sys, huayu.safety, huayu.labelling, huayu.ranking; huayu.safety.default_guard().prompt('一')"
    code += "; assert not {'torch', 'transformers', 'diffusers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
