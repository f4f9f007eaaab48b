"""The page for people (Gradio 6): talk about pictures, paint them, in Chinese or English. Heavy imports are lazy."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import FastAPI

    from huayu.serving.engine import Engine
    from huayu.serving.settings import ServeSettings
    from huayu.serving.shelf import Shelf

__all__ = ["appearance", "build", "default_history", "mount", "warm"]
_HERE = Path(__file__).parent


def default_history() -> Path:
    """The file of the history where no other is chosen."""
    from huayu.webui.history import data_folder

    return data_folder() / "history.sqlite"


def build(engine: Engine, shelf: Shelf, settings: ServeSettings, *, history: Path | None = None) -> gr.Blocks:
    """The page, English at its root and Chinese at ``zh``; ``history`` None keeps nothing.

    It asks the models through ``engine`` only. Serve it by ``launch(**appearance(...))`` or :func:`mount`.
    Raises ModelError when the shelf has no chat model, OSError and sqlite3.Error for an unusable history.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    import gradio as gr

    from huayu.webui.common import House, Room
    from huayu.webui.history import History
    from huayu.webui.page import Page
    from huayu.webui.words import words

    shelf.default("chat")
    house = House(engine, shelf, settings, None if history is None else History(history))
    blocks = gr.Blocks(title=words("en")("title"), analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400))
    with blocks:
        Page(Room(house, "en"), blocks)
        blocks.unload(house.leave)
    with blocks.route(words("zh")("title"), "zh", show_in_navbar=False):
        Page(Room(house, "zh"), blocks)
        blocks.unload(house.leave)
    return blocks.queue(default_concurrency_limit=None, max_size=4 * settings.max_queue)


def appearance(settings: ServeSettings, *, anywhere: bool = True) -> dict[str, Any]:
    """How Gradio is to show and guard the page: arguments of its ``launch`` and of ``mount_gradio_app``.

    ``anywhere`` False: a page for this machine answers only to names of this machine, so that no other site can come
    in under a name of its own.
    """
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from huayu.webui.front import Front
    from huayu.webui.look import theme

    before = [Middleware(Front)]
    if settings.is_local and not anywhere:
        hosts = ["127.0.0.1", "localhost", "[::1]", settings.host]
        before.insert(0, Middleware(TrustedHostMiddleware, allowed_hosts=hosts))
    return {
        "theme": theme(),
        "css_paths": [_HERE / "style.css"],
        "footer_links": [],
        "favicon_path": str(_HERE / "icon.svg"),
        "max_file_size": settings.max_body_bytes,
        "app_kwargs": {"middleware": before, "docs_url": None, "redoc_url": None, "openapi_url": None},
        "ssr_mode": False,
        "mcp_server": False,
        "show_error": False,
        "enable_monitoring": False,
    }


def mount(
    app: FastAPI, engine: Engine, shelf: Shelf, settings: ServeSettings, *, history: Path | None = None
) -> FastAPI:
    """``app`` with the page at ``settings.page_path``. Raises as :func:`build`."""
    import gradio as gr

    page = build(engine, shelf, settings, history=history)
    with warnings.catch_warnings():
        # Below another path than / it has no icon; and it is told to do without SSR, and says that it does.
        warnings.simplefilter("ignore", UserWarning)
        return gr.mount_gradio_app(app, page, settings.page_path, **appearance(settings))


def warm(shelf: Shelf) -> None:
    """Open what will be asked first, in the background: the chat model, and the painter when it is the small one."""
    import threading

    from huayu.embedded import EMBEDDED
    from huayu.errors import HuayuError

    def load() -> None:
        for card in shelf.listed():
            first = card.id == shelf.default(card.kind)
            if first and (card.kind == "chat" or card.id in EMBEDDED):
                with contextlib.suppress(HuayuError), shelf.use(card.id, card.kind):
                    """It stays open."""

    threading.Thread(target=load, name="huayu-warm", daemon=True).start()
