"""Models opened on first use, under a budget."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from huayu.errors import ModelError, OutOfMemory
from huayu.serving.settings import ServeSettings
from huayu.serving.shelf import Shelf
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
