"""Layouts, what an ideal eye sees of them, and their painting."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from huayu.data import scenes, world
from huayu.data.art_styles import common_style
from huayu.data.drawing import bent
from huayu.data.layouts import CELL, Scene, Thing, draw_scene, extreme, in_order, oracle_slots, place, region
from huayu.data.scenes import compose, paint
from huayu.data.sprites import silhouette
from tests.data.sprites_fixture import KEYS, some_sprites

IDS = world.concept_ids()
WHITE = next(i for i, row in enumerate(world.BACKGROUNDS) if row[0] == "white")


def thing(key: str, cx: float, cy: float, size: float = 0.4) -> Thing:
    return Thing(IDS[key], 0, KEYS.index(key), cx, cy, size)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_things_lie_inside_apart_and_in_a_clear_order(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(60):
        boxes = place(rng, count)
        assert len(boxes) == count
        for x, y, size in boxes:
            assert size / 2 <= x + 1e-9 <= 1 - size / 2 + 2e-9
            assert size / 2 <= y + 1e-9 <= 1 - size / 2 + 2e-9
        for (x, y, s), (a, b, t) in combinations(boxes, 2):
            assert max(abs(x - a), abs(y - b)) > 0.46 * (s + t)
            assert abs((x + y / 2) - (a + b / 2)) > 0.08


def test_one_thing_may_be_small_or_fill_the_picture() -> None:
    rng = np.random.default_rng(0)
    sizes = [place(rng, 1)[0][2] for _ in range(300)]
    assert min(sizes) < 0.3
    assert max(sizes) > 0.9


def test_training_scenes_never_show_a_held_pair_and_held_scenes_always_do() -> None:
    rng, sprites = np.random.default_rng(1), some_sprites()
    for _ in range(300):
        scene = draw_scene(rng, sprites, count=4, outside=0)
        assert len({t.concept for t in scene.things}) == 4
        assert not any(world.held_pair(a.concept, b.concept) for a, b in combinations(scene.things, 2))
    for _ in range(100):
        scene = draw_scene(rng, sprites, split="test", pairs="held")
        assert any(world.held_pair(a.concept, b.concept) for a, b in combinations(scene.things, 2))


def test_each_split_sees_its_own_styles_and_strangers() -> None:
    rng, sprites = np.random.default_rng(2), some_sprites()
    for split, styles in (("train", {0, 1}), ("train-eval", {0, 1}), ("choose", {2}), ("test", {3})):
        for _ in range(60):
            for t in draw_scene(rng, sprites, split=split, outside=0.5).things:
                assert t.style in styles
                assert t.concept == sprites.concept[t.sprite]
                assert bool(sprites.reserved[t.sprite]) == (split == "test" and t.concept == world.OUTSIDE)


def test_slots_say_what_covers_each_cell() -> None:
    scene = Scene(3, (thing("cat", 0.25, 0.25, 0.5), thing("car", 0.75, 0.75, 0.5)))
    slots, background = oracle_slots(scene)
    assert background == 3
    assert slots.shape == (16, len(world.CONCEPTS) + 2)
    np.testing.assert_allclose(slots.sum(1), 1, atol=1e-5)
    cat, car = slots[:, IDS["cat"] + 1].reshape(4, 4), slots[:, IDS["car"] + 1].reshape(4, 4)
    assert cat[:2, :2].min() > 0.5
    assert cat[2:].max() == cat[:, 2:].max() == 0
    np.testing.assert_allclose(car[2:, 2:], cat[:2, :2], atol=1e-5)
    assert slots[3, 0] == 1


def test_slots_of_a_stranger_are_in_the_last_column() -> None:
    slots, _ = oracle_slots(Scene(0, (Thing(world.OUTSIDE, 0, -1, 0.5, 0.5, 0.9),)))
    assert slots[:, -1].sum() > 5
    assert slots[:, 1:-1].sum() == 0


@pytest.mark.parametrize("flip", [False, True])
def test_slots_agree_with_the_painted_alpha(flip: bool) -> None:
    rng, sprites = np.random.default_rng(3), some_sprites()
    one = thing("cat", 0.4, 0.55, 0.7)._replace(flip=flip)
    scene = Scene(0, (one,))
    painted = paint(rng, sprites, scene, size=64)
    slots, _ = oracle_slots(scene, sprites, grid=8)
    seen = slots[:, IDS["cat"] + 1].reshape(8, 8)
    marked = painted.cover > 0
    np.testing.assert_array_less(np.abs(seen - painted.fraction)[marked], 0.2)
    assert np.abs(seen - painted.fraction)[marked].mean() < 0.06


@pytest.mark.parametrize("size", [64, 128])
def test_a_picture_has_its_labels_where_the_thing_is(size: int) -> None:
    rng, sprites = np.random.default_rng(4), some_sprites()
    scene = Scene(WHITE, (thing("car", 0.25, 0.25, 0.45), thing("rose", 0.75, 0.75, 0.45)))
    made = paint(rng, sprites, scene, size=size)
    assert made.pixels.shape == (size, size, 3)
    assert made.pixels.dtype == np.uint8
    assert set(made.cover.ravel()) == {0, IDS["car"] + 1, IDS["rose"] + 1}
    assert set(made.cover[:4, :4].ravel()) == {0, IDS["car"] + 1}
    corner = made.pixels[: size // 4, -size // 4 :]
    assert (corner == world.BACKGROUNDS[WHITE][2]).all()


def test_every_thing_is_labelled_even_when_small() -> None:
    rng, sprites = np.random.default_rng(5), some_sprites()
    for _ in range(150):
        made = compose(rng, sprites, augment=True)
        wanted = {t.concept + 1 if t.concept >= 0 else len(world.CONCEPTS) + 1 for t in made.scene.things}
        assert set(made.cover.ravel()) - {0} == wanted


def test_a_thing_of_the_ground_s_colour_gets_an_edge() -> None:
    sprites = some_sprites()
    colour = tuple(int(c) for c in sprites.pixels[KEYS.index("cat"), 40, 40, :3])
    nearest = min(
        range(len(world.BACKGROUNDS)), key=lambda i: np.abs(np.subtract(world.BACKGROUNDS[i][2], colour)).sum()
    )
    pixels = sprites.pixels.copy()
    pixels[KEYS.index("cat"), ..., :3] = world.BACKGROUNDS[nearest][2]
    hidden = type(sprites).build(
        pixels, sprites.concept, sprites.style, sprites.reserved, list(sprites.styles), list(sprites.roles), [False] * 4
    )
    made = paint(np.random.default_rng(6), hidden, Scene(nearest, (thing("cat", 0.5, 0.5, 0.6),)))
    assert np.abs(made.pixels.astype(int) - world.BACKGROUNDS[nearest][2]).max() > 80


def test_the_same_seed_paints_the_same_and_another_does_not() -> None:
    sprites = some_sprites()
    first, again, other = (compose(np.random.default_rng(seed), sprites).pixels for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_only_training_pictures_are_augmented() -> None:
    sprites = some_sprites()
    rng = np.random.default_rng(9)
    for _ in range(20):
        made = compose(rng, sprites, split="test")
        ground = np.array(world.BACKGROUNDS[made.scene.background][2])
        assert (made.pixels.reshape(-1, 3) == ground).all(1).mean() > 0.05


def test_left_is_only_said_when_a_cell_apart() -> None:
    near = Scene(0, in_order([thing("dog", 0.3, 0.2), thing("cat", 0.3 + CELL - 0.05, 0.8)]))
    far = Scene(0, in_order([thing("dog", 0.3, 0.2), thing("cat", 0.3 + CELL + 0.05, 0.8)]))
    assert extreme(near, "left") is None
    assert extreme(far, "left").concept == IDS["dog"]  # type: ignore[union-attr]
    assert extreme(far, "right").concept == IDS["cat"]  # type: ignore[union-attr]
    assert extreme(near, "bottom").concept == IDS["cat"]  # type: ignore[union-attr]
    alone = Scene(0, (thing("dog", 0.2, 0.5),))
    assert extreme(alone, "left") is alone.things[0]
    assert extreme(alone, "right") is extreme(alone, "top") is None


@pytest.mark.parametrize(
    ("cx", "cy", "at"),
    [
        (0.1, 0.1, (0, 0)),
        (0.5, 0.5, (1, 1)),
        (0.9, 0.5, (2, 1)),
        (0.34, 0.5, None),
        (0.5, 0.64, None),
        (0.8, 1.0, (2, 2)),
    ],
)
def test_regions_leave_their_borders_out(cx: float, cy: float, at: tuple[int, int] | None) -> None:
    assert region(thing("dog", cx, cy)) == at


def test_silhouettes_are_filled_but_not_outside() -> None:
    ring = np.zeros((20, 20), np.uint8)
    ring[4:16, 4:16] = 255
    ring[7:13, 7:13] = 0
    filled = silhouette(ring)
    assert filled[4:16, 4:16].min() == 255
    assert filled[:4].max() == filled[:, 16:].max() == 0


def test_some_coloured_things_are_redrawn_in_training_and_then_have_no_style() -> None:
    rng, sprites = np.random.default_rng(11), some_sprites()
    things = [t for _ in range(200) for t in compose(rng, sprites, size=32).scene.things]
    coloured = [t.redrawn for t in things if not sprites.ink[t.style]]
    assert 0.3 < np.mean(coloured) < 0.5
    assert not any(t.redrawn for t in things if sprites.ink[t.style])
    assert not any(t.redrawn for _ in range(40) for t in compose(rng, sprites, size=32, split="test").scene.things)
    plain = Thing(IDS["dog"], 0, 0, 0.5, 0.5, 0.5)
    assert common_style(Scene(0, (plain,))) is not None
    assert common_style(Scene(0, (plain._replace(redrawn=True),))) is None


def test_bent_things_are_moved_a_little_and_stay_whole() -> None:
    rng = np.random.default_rng(12)
    disc = np.zeros((60, 60, 4), np.float32)
    rows, columns = np.mgrid[:60, :60]
    disc[np.hypot(rows - 30, columns - 30) < 18] = (1, 0.5, 0, 1)
    bends = [bent(rng, disc) for _ in range(40)]
    areas = np.array([patch[..., 3].sum() for patch in bends]) / disc[..., 3].sum()
    assert 0.6 < areas.min() < 0.95 < 1.05 < areas.max() < 1.5
    far = np.hypot(rows - 30, columns - 30) > 18 + 60 * 0.2
    for patch in bends:
        assert patch[30, 30, 3] == 1
        assert patch[far].max() == 0
        assert np.abs(patch[..., 1] - patch[..., 3] / 2).max() < 1e-6  # colour and cover move together


def test_things_are_bent_in_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(scenes, "bent", lambda rng, patch: calls.append(len(patch)) or patch)
    rng, sprites = np.random.default_rng(13), some_sprites()
    for _ in range(40):
        compose(rng, sprites, size=32, split="test")
    assert not calls
    things = sum(len(compose(rng, sprites, size=32).scene.things) for _ in range(100))
    assert 0.35 * things < len(calls) < 0.65 * things
