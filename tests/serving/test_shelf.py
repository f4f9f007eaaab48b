"""Models opened on first use, under a budget."""

from __future__ import annotations

import base64
import io
import threading
from pathlib import Path

import pytest
from PIL import Image

from huayu.errors import ModelError, OutOfMemory
from huayu.serving.app import create_app
from huayu.serving.settings import ServeSettings
from huayu.serving.shelf import Shelf
from tests.serving.asgi import post
from tests.serving.conftest import CHAT, PAINT


def loaded(shelf: Shelf) -> list[str]:
    return [card.id for card in shelf.listed() if card.loaded]


def test_a_budget_for_one_puts_the_other_away_when_nobody_uses_it() -> None:
    shelf = Shelf(ServeSettings(device="cpu", memory_budget_gb=0.06))  # 22 MB and 48 MB
    assert [card.kind for card in shelf.listed()] == ["chat", "paint"]
    assert loaded(shelf) == []
    entered, leave = threading.Event(), threading.Event()

    def paint() -> None:
        with shelf.use(PAINT, "paint") as painter:
            assert painter.name == PAINT
            entered.set()
            leave.wait(60)

    with shelf.use(CHAT, "chat") as chat:
        assert loaded(shelf) == [CHAT]
        thread = threading.Thread(target=paint)
        thread.start()
        assert not entered.wait(3)
        assert chat.ask(None, "你是谁？").text
    assert entered.wait(60)
    assert loaded(shelf) == [PAINT]
    leave.set()
    thread.join()


def test_a_model_over_the_budget_is_refused() -> None:
    shelf = Shelf(ServeSettings(device="cpu", memory_budget_gb=0.001))
    with pytest.raises(OutOfMemory, match="over the server's 0.001 GB"), shelf.use(CHAT, "chat"):
        """Never."""
    assert loaded(shelf) == []


def test_names_hide_paths_and_are_unique(tiny_chat_folder: Path) -> None:
    shelf = Shelf(ServeSettings(chat_models=(str(tiny_chat_folder),), paint_models=()))
    assert [card.id for card in shelf.listed()] == [tiny_chat_folder.name]
    assert shelf.default("chat") == tiny_chat_folder.name
    with pytest.raises(ModelError, match="no model for paint"):
        shelf.default("paint")
    with pytest.raises(ModelError, match="Two models"):
        Shelf(ServeSettings(chat_models=(CHAT, CHAT)))


def test_a_ranker_chooses_among_candidates(tiny_chinese_clip: Path) -> None:
    settings = ServeSettings(device="cpu", ranker=str(tiny_chinese_clip))
    app = create_app(settings)

    def painted(**more: object) -> tuple[bytes, list[float]]:
        asked = {"prompt": "一个红苹果", "seed": 3, "steps": 2, **more}
        picture = post(app, "/v1/images/generations", asked).json()["data"][0]
        with Image.open(io.BytesIO(base64.b64decode(picture["b64_json"]))) as image:
            return image.tobytes(), picture["huayu"]["scores"]

    best, scores = painted(candidates=3)
    assert len(scores) == 3
    assert len({round(score, 4) for score in scores}) == 3
    assert painted(seed=3)[1] == []
    english = painted(prompt="a red apple", candidates=3)
    assert english == painted(prompt="a red apple")
    with app.state.shelf.use(PAINT, "paint") as painter, Image.frombytes("RGB", (64, 64), best) as image:
        assert painter.ranker("一个红苹果", [image])[0] == pytest.approx(max(scores), abs=1e-3)
