"""The models that are shipped inside the package: their names and the folders they lie in. No heavy imports."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

# name → what it is for; the folder beside this file has the same name.
EMBEDDED: dict[str, str] = {"huayu-chat-mini": "chat", "huayu-glm-mini": "chat", "huayu-paint-mini": "paint"}


def default(kind: str) -> str | None:
    """The embedded model used when none is named, for ``kind`` "chat" or "paint"; None when there is none."""
    return next((name for name, purpose in EMBEDDED.items() if purpose == kind), None)


def folder(name: str) -> Path:
    """Where an embedded model lies; it may not be there in a source tree without weights. KeyError for other names."""
    if name not in EMBEDDED:
        raise KeyError(name)
    return Path(str(files(__name__).joinpath(name)))
