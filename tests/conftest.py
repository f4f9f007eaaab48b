"""Fixtures that several folders of tests share. Heavy imports are made when a fixture is first asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from huayu.chat import ChatModel


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", action="store_true", help="write the page's pictures in docs/images")


@pytest.fixture(scope="session")
def tiny_chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random VisCPM-Chat, its processor and vocabulary."""
    from tests.chat.tiny import save_tiny_chat

    return save_tiny_chat(tmp_path_factory.mktemp("tiny-chat"))


@pytest.fixture(scope="session")
def tiny_chat(tiny_chat_folder: Path) -> ChatModel:
    """The same, opened for talking."""
    from huayu.chat import load_chat

    return load_chat(tiny_chat_folder, device="cpu")


@pytest.fixture(scope="session")
def diffusers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion, as diffusers saves it."""
    from tests.paint.tiny_diffusers import pipeline

    folder = tmp_path_factory.mktemp("tiny-sd")
    pipeline(folder / "vocabulary").save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture(scope="session")
def tiny_chinese_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Chinese-CLIP."""
    from tests.ranking.tiny import save_tiny_chinese_clip

    return save_tiny_chinese_clip(tmp_path_factory.mktemp("chinese-clip"))
