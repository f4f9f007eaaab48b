"""The tables of the small world: every concept is fully described and no name means two things."""

from __future__ import annotations

from collections import Counter

from huayu.data import uses, world
from huayu.data.pictogram_packages import DROPPED, PACKAGES
from huayu.data.strangers import OUTSIDE_TEST, OUTSIDE_TRAIN


def test_concepts_are_complete_and_unambiguous() -> None:
    keys = [concept.key for concept in world.CONCEPTS]
    assert len(set(keys)) == len(keys) >= 150
    assert {concept.category for concept in world.CONCEPTS} == set(world.CATEGORIES)
    for names in (
        [n for c in world.CONCEPTS for n in (c.en, *c.aliases_en)],
        [n for c in world.CONCEPTS for n in (c.zh, *c.aliases_zh)],
    ):
        assert [name for name, times in Counter(names).items() if times > 1] == []
    for concept in world.CONCEPTS:
        article = concept.phrase.split()[0]
        assert article in ("a", "an", "some")
        assert (article == "an") == (concept.en[0] in "aeiou" and concept.en != "unicorn") or article == "some"
        assert not concept.plural or article == "some"


def test_everyday_things_are_there() -> None:
    asked = {
        "dog",
        "cat",
        "apple",
        "banana",
        "pizza",
        "car",
        "bus",
        "bicycle",
        "house",
        "rose",
        "tree",
        "star",
        "key",
        "clock",
        "camera",
        "guitar",
        "football",
        "hammer",
        "balloon",
        "christmastree",
        "umbrella",
        "laptop",
    }
    assert asked <= set(world.concept_ids())


def test_no_drawing_is_both_known_and_strange() -> None:
    known = "".join(concept.emoji for concept in world.CONCEPTS)
    everything = known + OUTSIDE_TRAIN + OUTSIDE_TEST
    assert len(set(everything)) == len(everything)


def test_held_pairs_are_a_tenth_and_the_same_both_ways() -> None:
    count = len(world.CONCEPTS)
    share = len(world.held_pairs()) / (count * (count - 1) / 2)
    assert 0.07 < share < 0.13
    for a, b in world.held_pairs():
        assert world.held_pair(b, a)
    assert not any(world.held_pair(a, a) for a in range(count))


def test_groups_of_alike_things_name_concepts() -> None:
    aliases = {alias for concept in world.CONCEPTS for alias in (*concept.aliases_en, *concept.aliases_zh)}
    assert aliases >= world.GENERIC
    assert set().union(*world.ALIKE) | world.PLURAL <= set(world.concept_ids())


def test_uses_and_festivals_are_of_things_of_the_world() -> None:
    assert set(uses.USES) | set(uses.FESTIVALS) <= set(world.concept_ids())
    for table in (uses.USES, uses.FESTIVALS):
        both = Counter(table.values())
        assert len({en for en, _ in both}) == len({zh for _, zh in both}) == len(both), "one to one between languages"


def test_packages_are_pinned_and_share_alike_ones_only_judge() -> None:
    for package in PACKAGES:
        assert package.integrity.startswith("sha512-")
        assert len(package.integrity) == len("sha512-") + 88
        assert (package.role == "train") == (package.licence in ("Apache-2.0", "MIT", "CC-BY-4.0"))
    assert {style for style, _ in DROPPED} <= {package.style for package in PACKAGES}
    assert Counter(package.role for package in PACKAGES)["test"] == 1
