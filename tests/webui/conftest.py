"""One server and one browser for all tests of the page, which share a worker since they share a file."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
          "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
          "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # fmt: skip
OpenPage = Callable[..., "Page"]


@pytest.fixture(scope="module")
def site(tiny_chat_folder: Path, tiny_chinese_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of ``huayu web``: the embedded models, one that talks nonsense for long, and one that ranks."""
    pytest.importorskip("gradio", reason="the page's packages are not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    history = tmp_path_factory.mktemp("page") / "history.sqlite"
    command = [sys.executable, "-m", "huayu", "web", "--port", str(port), "--history", str(history)]
    command += ["--model", "huayu-chat-mini", "--model", str(tiny_chat_folder), "--ranker", str(tiny_chinese_clip)]
    environment = {
        **os.environ,
        "HUAYU_LANG": "en",
        "HUAYU_MAX_TOKENS": "8000",
        "PYTHONPATH": str(ROOT / "src"),
        "no_proxy": "127.0.0.1",
    }
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as server:
        assert server.stdout is not None
        said = server.stdout.readline()
        address = re.search(r"http://\S+", said)
        assert address, said
        yield address[0]
        server.terminate()
        assert server.wait(30) == 0


@pytest.fixture(scope="module")  # while it is open this thread has a running event loop: not for other modules
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("Chromium is not installed (Debian: apt install chromium fonts-noto-cjk)")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def open_page(site: str, browser: Browser) -> Iterator[OpenPage]:
    """``open_page(locale, width, height)`` → the page, in a fresh browser profile; no other host may be asked."""
    foreign: list[str] = []
    wrong: list[str] = []
    contexts = []

    def opened(locale: str = "en-US", width: int = 1280, height: int = 860, **more: Any) -> Page:
        context = browser.new_context(locale=locale, viewport={"width": width, "height": height}, **more)
        contexts.append(context)
        context.set_default_timeout(45_000)
        context.on("request", lambda request: foreign.append(request.url) if _is_foreign(request.url) else None)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(site)
        page.wait_for_selector("#box textarea")
        page.wait_for_function("document.querySelectorAll('#chat .example img').length === 3")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not foreign
    assert not wrong


def _is_foreign(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "data:", "blob:"))


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """``picture(page, name)`` writes docs/images/page_NAME.png when pytest is told ``--screenshots``."""

    def take(page: Page, name: str) -> None:
        if not request.config.getoption("--screenshots"):
            return
        from PIL import Image

        path = ROOT / "docs" / "images" / f"page_{name}.png"
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)
        page.screenshot(path=path)
        Image.open(path).convert("RGB").quantize(256, kmeans=2, dither=Image.Dither.NONE).save(path, optimize=True)
        assert path.stat().st_size <= 150_000

    return take
