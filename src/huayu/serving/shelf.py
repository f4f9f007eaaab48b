"""Models by name: opened on first use, one at a time, and put away by need. No torch at import."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from huayu.errors import ModelError, OutOfMemory
from huayu.serving.settings import ServeSettings

Kind = Literal["chat", "paint"]
_GB = 10**9


@dataclass(frozen=True)
class ModelCard:
    """A model that may be asked for; ``created``: Unix seconds, when the server first knew it."""

    id: str
    kind: Kind
    created: int
    owned_by: str
    loaded: bool


@dataclass
class _Entry:
    """``source`` is what the model is opened by; ``num_bytes`` is known once it was open."""

    id: str
    kind: Kind
    source: str
    model: Any = None
    users: int = 0
    num_bytes: int = 0
    used: float = 0.0
    fixed: bool = field(default=False)


class Shelf:
    """The models of one process under one budget of memory. Thread-safe.

    ``opened``: models that are open already, by name; they stay. A model that is a folder or a file is called by its
    last part, so that no path leaves the machine.
    """

    def __init__(self, settings: ServeSettings, opened: Mapping[str, Any] | None = None) -> None:
        self._settings = settings
        self._created = int(time.time())
        self._changed = threading.Condition()
        self._loading = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        named: list[tuple[Kind, str]] = [("chat", name) for name in settings.chat_models]
        named += [("paint", name) for name in settings.paint_models]
        for kind, source in named:
            entry = _Entry(_name_of(source), kind, source)
            if self._entries.setdefault(entry.id, entry) is not entry:
                raise ModelError(f"Two models are called {entry.id}.", f"有两个模型都叫 {entry.id}。")
        for name, model in (opened or {}).items():
            kind = "chat" if hasattr(model, "ask") else "paint"
            self._entries[name] = _Entry(name, kind, name, model, num_bytes=_bytes(model), fixed=True)

    def listed(self) -> list[ModelCard]:
        """All models, those for chat first."""
        entries = sorted(self._entries.values(), key=lambda entry: entry.kind != "chat")
        return [ModelCard(e.id, e.kind, self._created, "huayu", e.model is not None) for e in entries]

    def default(self, kind: Kind) -> str:
        """The first model of its kind. Raises ModelError when there is none."""
        for card in self.listed():
            if card.kind == kind:
                return card.id
        raise ModelError(f"This server has no model for {kind}.", f"此服务没有用于 {kind} 的模型。")

    def require(self, name: str, kind: Kind) -> None:
        """Raises ModelError unless there is a model of this name and kind."""
        entry = self._entries.get(name)
        if entry is None:
            known = ", ".join(card.id for card in self.listed() if card.kind == kind)
            raise ModelError(
                f"There is no model called {name[:80]!r} here; there are: {known}.",
                f"此处没有名为 {name[:80]!r} 的模型；可用：{known}。",
            )
        if entry.kind != kind:
            raise ModelError(f"{entry.id} is not a model for {kind}.", f"{entry.id} 不是用于 {kind} 的模型。")

    @contextmanager
    def use(self, name: str, kind: Kind) -> Iterator[Any]:
        """The ChatModel or Painter, kept open meanwhile. Raises ModelError, CheckpointError, OutOfMemory."""
        self.require(name, kind)
        entry = self._entries[name]
        self._take(entry)
        try:
            yield entry.model
        finally:
            with self._changed:
                entry.users -= 1
                entry.used = time.monotonic()
                self._changed.notify_all()

    def preload(self) -> None:
        """Open all, as far as the budget goes; errors as :meth:`use`."""
        for card in self.listed():
            with self.use(card.id, card.kind):
                """Open."""

    def _take(self, entry: _Entry) -> None:
        while True:
            with self._changed:
                if entry.model is not None:
                    entry.users += 1
                    return
            with self._loading:
                if entry.model is None:
                    self._make_room(entry)
                    self._open(entry)

    def _open(self, entry: _Entry) -> None:
        settings = self._settings
        common: dict[str, Any] = {"device": settings.device, "dtype": settings.dtype, "safety": settings.safety}
        if entry.kind == "chat":
            from huayu.chat import load_chat

            model: Any = load_chat(entry.source, quantize=settings.quantize, compile=settings.compile, **common)
        else:
            from huayu.paint import load_paint

            model = load_paint(entry.source, ranker=settings.ranker, **common)
        entry.num_bytes = _bytes(model)
        self._make_room(entry)  # its size was not known before it was first open
        with self._changed:
            entry.model, entry.used = model, time.monotonic()

    def _make_room(self, entry: _Entry) -> None:
        """Put away what was not used for longest until ``entry`` fits; waits for models that are at work."""
        if self._settings.memory_budget_gb is None:
            return
        budget = int(self._settings.memory_budget_gb * _GB)
        with self._changed:
            while self._held(but=entry) + entry.num_bytes > budget:
                movable = [e for e in self._entries.values() if e.model is not None and not e.fixed and e is not entry]
                if not movable:
                    raise OutOfMemory(
                        f"{entry.id} has {entry.num_bytes / _GB:.3f} GB, over the server's {budget / _GB:.3f} GB",
                        f"{entry.id} 占 {entry.num_bytes / _GB:.3f} GB，超过服务的 {budget / _GB:.3f} GB",
                    )
                idle = [e for e in movable if not e.users]
                if idle:
                    min(idle, key=lambda e: e.used).model = None
                else:
                    self._changed.wait()
        collect()

    def _held(self, but: _Entry) -> int:
        return sum(e.num_bytes for e in self._entries.values() if e.model is not None and e is not but)


def _name_of(source: str) -> str:
    from huayu.checkpoints.adapters import find_adapter

    path = Path(source).expanduser()
    adapter = find_adapter(path)
    return adapter.name if adapter else path.resolve().name if path.exists() else source


def _bytes(model: Any) -> int:
    """Of parameters and buffers, whichever way the model holds them."""
    import torch

    backend = model.backend
    parts = [backend.model] if hasattr(backend, "model") else getattr(backend, "pipeline", backend).components.values()
    modules = [part for part in parts if isinstance(part, torch.nn.Module)]
    return sum(tensor.nbytes for m in modules for tensor in (*m.parameters(), *m.buffers()))


def collect() -> None:
    """Give back what nobody holds any more, on the GPU too."""
    gc.collect()
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
