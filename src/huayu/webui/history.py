"""What was talked about and painted, in one SQLite file: listed, opened, exported and deleted by its owner."""

from __future__ import annotations

import base64
import json
import os
import re
import sqlite3
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["chat", "paint"]
_TABLE = """CREATE TABLE IF NOT EXISTS items (
    owner TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, title TEXT NOT NULL, changed REAL NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY (owner, id))"""


def data_folder() -> Path:
    """Where this platform keeps a user's data."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "huayu"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "huayu"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "huayu"


@dataclass(frozen=True)
class Item:
    """One conversation (``body``: :meth:`Conversation.to_json`) or painting (``body``: see :mod:`.painting`)."""

    id: str
    kind: Kind
    title: str
    changed: float
    body: str = ""


class History:
    """The items of all owners in one file, which only its user may read. Thread-safe; methods raise sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        with self._open() as database:
            database.execute(_TABLE)
        path.chmod(0o600)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self.path)
        try:
            with database:
                database.execute("PRAGMA secure_delete = ON")  # what is deleted is gone from the file
                yield database
        finally:
            database.close()

    def save(self, owner: str, item: Item) -> None:
        """Put the item in, in place of one with its id; its time is now."""
        row = (owner, item.id, item.kind, item.title, time.time(), item.body)
        with self._open() as database:
            database.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?)", row)

    def listed(self, owner: str, limit: int = 200) -> list[Item]:
        """The owner's items without their bodies, the newest first."""
        query = "SELECT id, kind, title, changed FROM items WHERE owner = ? ORDER BY changed DESC LIMIT ?"
        with self._open() as database:
            return [Item(*row) for row in database.execute(query, (owner, limit))]

    def get(self, owner: str, ids: Iterable[str] | None = None) -> list[Item]:
        """Whole items; ``ids`` None: all of the owner's."""
        query = "SELECT id, kind, title, changed, body FROM items WHERE owner = ?"
        with self._open() as database:
            rows = [Item(*row) for row in database.execute(query, (owner,))]
        return rows if ids is None else [item for item in rows if item.id in set(ids)]

    def delete(self, owner: str, item_id: str | None = None) -> None:
        """Delete one item, or all of the owner's."""
        with self._open() as database:
            database.execute("DELETE FROM items WHERE owner = ? AND (? IS NULL OR id = ?)", (owner, item_id, item_id))


def export(items: list[Item], folder: Path) -> Path:
    """One conversation as JSON, anything else as a zip of JSON and PNG files, in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    if len(items) == 1 and items[0].kind == "chat":
        path = folder / f"{_file_name(items[0])}.json"
        path.write_text(items[0].body, encoding="utf-8")
        return path
    path = folder / (f"{_file_name(items[0])}.zip" if len(items) == 1 else "huayu-history.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, item in enumerate(items, 1):
            name = f"{number:03d}-{_file_name(item)}"
            record = json.loads(item.body)
            for place, picture in enumerate(record["pictures"] if item.kind == "paint" else (), 1):
                archive.writestr(f"{name}-{place}.png", base64.b64decode(picture.pop("png")))
            archive.writestr(f"{name}.json", json.dumps(record, ensure_ascii=False, indent=1))
    return path


def _file_name(item: Item) -> str:
    day = time.strftime("%Y-%m-%d", time.localtime(item.changed))
    return f"huayu-{item.kind}-{day}-{re.sub(r'[^0-9A-Za-z一-鿿]+', '-', item.title)[:24].strip('-') or item.id[:8]}"
