"""The painter's task on made-up pictures and a painter that is always right, or always wrong."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from huayu.chat import load_chat
from huayu.data import art_styles, paintings, world
from huayu.data.paint_captions import LANGUAGES, Order
from huayu.evaluation import mini_paint, paint_judges, paint_pairs
from huayu.paint.beside import together

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def pictures() -> np.ndarray:
    """Discs of each thing's own colour and size, ringed for each style, on the true backgrounds."""
    rng = np.random.default_rng(0)
    grounds = np.array([colour for _, _, colour in world.BACKGROUNDS], np.uint8)
    shape = (len(world.CONCEPTS), len(art_styles.STYLES), len(grounds), paintings.VARIANTS, 64, 64, 3)
    found = np.broadcast_to(grounds[:, None, None, None], shape).copy()
    away = np.hypot(*np.mgrid[-31.5:32, -31.5:32])
    for concept in range(shape[0]):
        radius, colour = rng.uniform(12, 28), rng.integers(256, size=3)
        found[concept, :, :, :, away < radius] = colour
        for style in range(shape[1]):
            found[concept, style, :, :, away < 2 * style] = 255 - colour
    return found


@pytest.fixture
def judged(pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Evaluate a painter that shows the order of ``change(order)``."""

    def run(change: Any) -> dict[str, dict[str, float]]:
        asked = mini_paint.prompts(4) + mini_paint.by_seeds(4)
        wanted = {(a.prompt, a.seed): Image.fromarray(pictures[change(a.order).shown][a.seed % 2]) for a in asked}
        for language in LANGUAGES:
            for number, (prompt, *orders) in enumerate(paint_pairs.pair_prompts(language, 4)):
                first, second = (Image.fromarray(pictures[change(order).shown][0]) for order in orders)
                wanted[prompt, paint_pairs.FIRST_SEED + number] = together(first, second, upright=False)

        def paint(prompt: str, seed: int) -> Any:
            return SimpleNamespace(images=[wanted[prompt, seed]])

        monkeypatch.setattr(mini_paint, "load_paint", lambda *a, **k: SimpleNamespace(paint=paint, name="fake"))
        monkeypatch.setattr(mini_paint.paintings, "load", lambda folder: pictures)
        return mini_paint.evaluate(None, 4, tmp_path / "out")

    return run


def test_a_painter_that_is_right_has_full_marks(judged: Any, tmp_path: Path) -> None:
    figures = judged(lambda order: order)
    for row in figures.values():
        assert row["nearest top-1"] == row["nearest top-5"] == row["background"] == row["style"] == 1
    assert json.loads((tmp_path / "out" / "table.json").read_text("utf-8"))["name zh"]["n"] == 4
    assert json.loads((tmp_path / "out" / "table.json").read_text("utf-8"))["seeds"] == {"different": 1, "apart": 0}
    assert (tmp_path / "out" / "table.md").read_text("utf-8").count("\n") == 2 + len(figures)
    for kind in mini_paint.KINDS:
        with Image.open(tmp_path / "out" / f"{kind.replace(' ', '-')}.png") as sheet:
            assert sheet.width > 1000


def test_a_painter_that_is_wrong_has_none(judged: Any) -> None:
    grounds = len(world.BACKGROUNDS)
    figures = judged(lambda o: Order((o.concept + 1) % len(world.CONCEPTS), o.shown[1], (o.shown[2] + 1) % grounds))
    for kind, row in figures.items():
        if kind != "real pictures":
            assert row["background"] == 0
            assert row["nearest top-1"] <= 0.25


def test_prompts_ask_for_what_their_kind_says() -> None:
    asked = mini_paint.prompts()
    assert asked == mini_paint.prompts()
    for one in asked:
        assert one.order.held == one.kind.startswith("new")
        assert (one.order.style is None) == (
            one.kind in ("name", "background", "new background")
        ) or one.kind == "typed"
    apple = next(a for a in asked if a.kind == "name" and world.CONCEPTS[a.order.concept].key == "apple")
    assert apple.prompt in ("苹果", "一个苹果")


def test_variety_counts_pictures_that_are_new() -> None:
    pixels = np.zeros((2, mini_paint.SEEDS, 8, 8, 3), np.uint8)
    pixels[0, :, :4] = np.array([0, 100, 200, 100, 0, 0])[:, None, None, None]
    seen = mini_paint.variety(pixels.reshape(-1, 8, 8, 3))
    assert seen["different"] == (3 + 1) / 2
    assert 20 < seen["apart"] < 60


def test_the_chat_model_names_what_is_painted() -> None:
    dog = np.asarray(Image.open(EXAMPLES / "dog.png").convert("RGB"))
    ids = world.concept_ids()
    chat = load_chat("huayu-chat-mini", device="cpu")
    assert paint_judges.named(chat, np.stack([dog, dog]), [ids["dog"], ids["cat"]]) == [True, False]
