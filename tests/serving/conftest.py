"""One real server for all tests of this folder: the models inside the package behind uvicorn on a free port."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from huayu.serving.shelf import Shelf

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CHAT, PAINT = "huayu-chat-mini", "huayu-paint-mini"


def data_url(name: str) -> str:
    """One of the example pictures."""
    return "data:image/png;base64," + base64.b64encode((EXAMPLES / name).read_bytes()).decode()


@pytest.fixture(scope="session")
def shelf() -> Shelf:
    """Both models, open."""
    from huayu.chat import load_chat
    from huayu.paint import load_paint
    from huayu.serving.settings import ServeSettings
    from huayu.serving.shelf import Shelf

    opened = {CHAT: load_chat(device="cpu", safety="default"), PAINT: load_paint(device="cpu")}
    return Shelf(ServeSettings(), opened)


@pytest.fixture(scope="session")
def server(shelf: Shelf) -> Iterator[str]:
    """Its address, without a slash at the end."""
    import uvicorn

    from huayu.serving.app import create_app
    from huayu.serving.settings import ServeSettings

    app = create_app(ServeSettings(max_queue=32), shelf=shelf)
    running = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    running.should_exit = True
    thread.join()
