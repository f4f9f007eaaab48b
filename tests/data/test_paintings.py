"""Captions say what they mean, in words of the vocabulary; held pairs are never asked for in training."""

from __future__ import annotations

import numpy as np
import pytest

from huayu.data import art_styles, paint_captions, paintings, world
from huayu.data.paint_captions import LANGUAGES, Order, caption, disturbed, draw_order, plain
from huayu.models.cpm_bee import BeeVocabulary
from tests.data.sprites_fixture import some_sprites


@pytest.fixture(scope="module")
def vocabulary() -> BeeVocabulary:
    return BeeVocabulary(paint_captions.vocabulary())


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_caption_is_in_words_of_the_vocabulary(vocabulary: BeeVocabulary, language: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(400):
        order = draw_order(rng)
        for text in (caption(rng, order, language), plain(order, language), plain(order, language, 1)):
            assert not any(piece.is_unknown for piece in vocabulary.pieces(text)), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_caption_says_all_that_is_ordered(language: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(400):
        order = draw_order(rng)
        text = caption(rng, order, language).lower()
        assert any(name.lower() in text for name in paint_captions.names(order.concept, language))
        if order.style is not None:
            spoken = getattr(art_styles.STYLES[order.style], language)
            assert any(name.lower() in text for name in spoken), text
        if order.background is not None:
            en, zh, _ = world.BACKGROUNDS[order.background]
            assert (en if language == "en" else zh[:-1]) in text, text


def test_plain_captions_read_as_people_write() -> None:
    apple = world.concept_ids()["apple"]
    order = Order(apple, 1, 7)
    assert plain(order, "zh") == "苹果，扁平风格，蓝色背景"
    assert plain(order, "en") == "apple, flat style, blue background"
    assert plain(Order(apple, None, 3), "zh", 1) == "一个红色背景上的苹果"
    assert plain(Order(apple, None, 4), "en", 1) == "an apple on an orange background"


def test_held_pairs_are_a_tenth_and_never_drawn() -> None:
    count, styles, grounds = len(world.CONCEPTS), len(art_styles.STYLES), len(world.BACKGROUNDS)
    style = np.mean([paintings.held_style(c, s) for c in range(count) for s in range(1, styles)])
    ground = np.mean([paintings.held_background(c, g) for c in range(count) for g in range(1, grounds)])
    assert 0.06 < style < 0.14
    assert 0.08 < ground < 0.12
    assert not any(Order(c, None, None).held for c in range(count)), "what people ask first is always learned"
    rng = np.random.default_rng(2)
    assert not any(draw_order(rng).held for _ in range(2000))


def test_a_strange_word_leaves_the_rest(vocabulary: BeeVocabulary) -> None:
    rng = np.random.default_rng(3)
    for text in ("a red apple", "画一只猫") * 20:
        changed = disturbed(rng, text)
        assert len(changed) > len(text)
        assert not any(piece.is_unknown for piece in vocabulary.pieces(changed))


def test_pictures_are_drawings_on_their_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    styles = tuple(art_styles.Style((name,), (name,), (name,)) for name in ("plain", "inked"))
    ids = world.concept_ids()
    monkeypatch.setattr(paintings, "STYLES", styles)
    monkeypatch.setattr(world, "CONCEPTS", tuple(world.CONCEPTS[ids[key]] for key in ("dog", "cat")))
    found = paintings.render(some_sprites())
    assert found.shape == (2, 2, len(world.BACKGROUNDS), paintings.VARIANTS, 64, 64, 3)
    for ground, (_, _, colour) in enumerate(world.BACKGROUNDS):
        assert (found[:, :, ground, :, 0, 0] == colour).all()
    assert (found[:, :, :, 1::2] == found[:, :, :, ::2, :, ::-1]).all(), "one artist: every other variant is mirrored"
    ink = np.abs(found[0, 1, :, 0].astype(int) - found[0, 1, :, 0, :1, :1].astype(int)).max((1, 2, 3))
    assert (ink > 90).all(), "ink stands out from every colour"


def test_the_first_variants_are_of_different_artists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paintings, "STYLES", (art_styles.Style(("plain", "inked"), ("any",), ("any",)),))
    monkeypatch.setattr(world, "CONCEPTS", world.CONCEPTS[:1])
    found = paintings.render(some_sprites())[0, 0, 0].astype(int)
    assert np.abs(found[0] - found[1]).max() > 90, "by the two artists"
    assert (found[2:4] == found[:2, :, ::-1]).all(), "then both are mirrored"
    assert (found[4:] == found[:4]).all(), "and again"
