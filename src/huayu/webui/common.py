"""What the parts of the page share: the models' queue, the history, files to show, and who is asking."""

from __future__ import annotations

import logging
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from huayu.errors import HuayuError
from huayu.webui.history import History, Item
from huayu.webui.words import Language, Words, sentence, words

if TYPE_CHECKING:
    from huayu.chat.conversation import Picture
    from huayu.serving.engine import Engine, Ticket
    from huayu.serving.settings import ServeSettings
    from huayu.serving.shelf import Shelf

# What a handler that streams gives: {component: what is new}.
Events = AsyncIterator[dict[Any, Any]]
QUIET: Any = {"show_progress": "hidden", "api_visibility": "private"}
LOG = logging.getLogger("huayu.webui")
_SHOWN_SIDE = 1024
_KEPT_SECONDS = 24 * 3600


class Scratch:
    """Files that the page shows, each written once; those not written again for a day are swept away."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="huayu-page-")  # gone when the process ends
        self.path = Path(self._folder.name)
        self._swept = time.time()

    def close(self) -> None:
        """All of them go."""
        self._folder.cleanup()

    def put(self, name: str, write: Callable[[Path], Any]) -> str:
        """The path of the file called ``name``; ``write(path)`` makes it when it is not there."""
        self._sweep()
        path = self.path / name
        if path.exists():
            path.touch()
        else:
            write(path)
        return str(path)

    def shown(self, picture: Picture) -> str:
        """A copy to look at: at most 1024 pixels a side, without the file's metadata."""

        def write(path: Path) -> None:
            small = picture.image.copy()
            small.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE), Image.Resampling.LANCZOS)
            small.save(path, "WEBP", quality=90)

        return self.put(f"{picture.key}.webp", write)

    def original(self, picture: Picture) -> str:
        """The file as it came."""
        suffixes = {b"\x89P": "png", b"\xff\xd8": "jpg", b"RI": "webp", b"GI": "gif", b"BM": "bmp"}
        name = f"{picture.key}.{suffixes.get(picture.data[:2], 'png')}"
        return self.put(name, lambda path: path.write_bytes(picture.data))

    def _sweep(self) -> None:
        now = time.time()
        if now - self._swept < _KEPT_SECONDS / 24:
            return
        self._swept = now
        for path in self.path.iterdir():
            if now - path.stat().st_mtime > _KEPT_SECONDS:
                path.unlink(missing_ok=True)


@dataclass
class House:
    """Behind both languages: models, history, and the tickets that are running, by session."""

    engine: Engine
    shelf: Shelf
    settings: ServeSettings
    history: History | None
    scratch: Scratch = field(default_factory=Scratch)
    tickets: dict[tuple[str | None, str], Ticket] = field(default_factory=dict)

    def models(self, kind: str) -> list[str]:
        """Names of that kind, the usual one first."""
        return [card.id for card in self.shelf.listed() if card.kind == kind]

    def is_open(self, name: str) -> bool:
        """Whether a model is loaded already."""
        return any(card.id == name and card.loaded for card in self.shelf.listed())

    def stop(self, session: str | None, kind: str) -> None:
        """Cancel what is running for that session."""
        ticket = self.tickets.get((session, kind))
        if ticket is not None:
            ticket.cancel()

    def leave(self, request: gr.Request) -> None:
        """The page was closed: nobody waits for its answers."""
        for kind in ("chat", "paint"):
            self.stop(request.session_hash, kind)
            self.tickets.pop((request.session_hash, kind), None)


@dataclass(frozen=True)
class Room:
    """The house in one language."""

    house: House
    language: Language

    @property
    def say(self) -> Words:
        """``say(key, *values)`` in the page's language."""
        return words(self.language)

    def explain(self, error: BaseException) -> str:
        """One sentence for the reader; what was not foreseen goes to the log, not to the page."""
        if isinstance(error, HuayuError):
            return sentence(error, self.language)
        if isinstance(error, sqlite3.Error):
            LOG.warning("history: %s", error)
            return self.say("history broken", error)
        LOG.error("the page failed", exc_info=error)
        return self.say("wrong")

    def owner(self, saved: dict[str, Any] | None, request: gr.Request) -> str:
        """Whose history it is: the one who logged in, else this browser."""
        if request.username:
            return f"user:{request.username}"
        return f"browser:{(saved or {}).get('owner', '')}"

    def kept(self, owner: str, make: Callable[[], Item]) -> tuple[str, Any]:
        """Put an item into the history; what went wrong, if anything, and the new list."""
        try:
            if self.house.history is not None and owner != "browser:":
                self.house.history.save(owner, make())
            return "", self.listed(owner)
        except sqlite3.Error as error:
            return self.explain(error), gr.skip()

    def listed(self, owner: str, chosen: str | None = None) -> Any:
        """The history as choices. Raises sqlite3.Error."""
        items = self.house.history.listed(owner) if self.house.history is not None else []
        return gr.update(choices=[(self._label(item), item.id) for item in items], value=chosen)

    def _label(self, item: Item) -> str:
        day = time.strftime("%m-%d %H:%M", time.localtime(item.changed))
        return f"{self.say('talk' if item.kind == 'chat' else 'paint')} · {item.title or self.say('picture')} · {day}"
