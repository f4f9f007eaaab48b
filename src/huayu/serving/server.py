"""The process: uvicorn around the application, workers, and an end that lets running answers finish."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from prometheus_client import multiprocess
from starlette.middleware.trustedhost import TrustedHostMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.supervisors import Multiprocess

from huayu.errors import OptionError
from huayu.runtime.allocator import give_back_freed_memory
from huayu.serving import logs, metrics
from huayu.serving.limits import Gate
from huayu.serving.settings import ServeSettings
from huayu.serving.shelf import Shelf

HEADER_SECONDS = 10.0
MAX_CONNECTIONS = 1000
_HANDOVER = "HUAYU_SERVE_SETTINGS"


def serve(settings: ServeSettings, application: str = "huayu.serving.server:application") -> int:
    """Serve until SIGTERM or SIGINT; the exit code. ``application``: what makes it in each worker, as module:function.

    Raises OptionError when strangers could reach it without a key.
    """
    look_at_the_door(settings)
    os.environ[_HANDOVER] = settings.model_dump_json()  # how worker processes learn of it
    config = uvicorn.Config(
        application,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        http=PatientProtocol,
        ws="none",
        log_config=logs.configuration(settings),
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=2,  # the draining was before
        timeout_worker_healthcheck=30,  # loading a model can hold a worker up
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # also what comes of the signal once all is done
    if settings.workers == 1:
        _Announced(config).run()
        return 0
    with tempfile.TemporaryDirectory(prefix="huayu-metrics-", ignore_cleanup_errors=True) as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # read where the workers import their counters
        sockets = [config.bind_socket()]
        _announce(sockets)
        _Workers(config, sockets=sockets).run()
    return 0


class _Workers(Multiprocess):
    """Forgets what a worker had open and queued once it has died."""

    def keep_subprocess_alive(self) -> None:
        before = [process.pid for process in self.processes]
        super().keep_subprocess_alive()
        for pid in set(before).difference(process.pid for process in self.processes):
            multiprocess.mark_process_dead(pid)


class _Announced(uvicorn.Server):
    """Says when it can be asked."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            _announce([each for server in self.servers for each in server.sockets])


def _announce(sockets: Sequence[Any]) -> None:
    host, port = sockets[0].getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    sys.stdout.write(f"huayu · ready 已就绪: http://{shown}:{port}/v1 (Ctrl-C ends it · 按 Ctrl-C 结束)\n")
    sys.stdout.flush()


def application() -> FastAPI:
    """What each worker serves, by the settings that :func:`serve` left in the environment."""
    from huayu.serving.app import create_app

    settings = ServeSettings.model_validate_json(os.environ[_HANDOVER])
    app = create_app(settings)
    only_by_a_local_name(app, settings)
    inner = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(served: FastAPI) -> AsyncIterator[Any]:
        with draining(app.state.gate, settings.drain_seconds):
            async with inner(served) as state:
                tasks = [asyncio.create_task(tidy(app.state.shelf))]
                if metrics.shared():
                    tasks.append(asyncio.create_task(app.state.metrics.keep_fresh()))
                yield state
                for task in tasks:
                    task.cancel()

    app.router.lifespan_context = lifespan
    return app


async def tidy(shelf: Shelf, every: float = 30.0) -> None:
    """Keep memory flat, for ever.

    Requests leave cycles behind, with pictures in them. Python looks through old objects only once a quarter of them
    is new, and libraries and models alone are half a million; so those are set aside, and the rest is looked through.
    """
    set_aside = None
    while True:
        gc.collect()
        loaded = [card.id for card in shelf.listed() if card.loaded]
        if loaded != set_aside:
            gc.freeze()
            set_aside = loaded
        give_back_freed_memory()
        await asyncio.sleep(every)


def only_by_a_local_name(app: FastAPI, settings: ServeSettings) -> None:
    """Without keys only a name of this machine will do, or any web page could ask under a name that points here."""
    if settings.is_local and not settings.keys:
        names = ["127.0.0.1", "localhost", "::1", "[::1]", settings.host]
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=names)


@contextlib.contextmanager
def draining(gate: Gate, seconds: float) -> Iterator[None]:
    """Until the first SIGTERM or SIGINT has let what is running finish, uvicorn does not hear of it.

    Meanwhile new requests get 503 (the gate is closing). The same signal again: at once.
    """
    loop = asyncio.get_running_loop()
    heard: set[int] = set()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def pass_on(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    async def wait(number: int) -> None:
        end = time.monotonic() + seconds
        while gate.running and time.monotonic() < end:
            await asyncio.sleep(0.05)
        gate.cut()
        pass_on(number, None)

    tasks = []

    def hear(number: int, frame: FrameType | None) -> None:
        if number in heard:
            pass_on(number, frame)
        elif not heard:
            gate.closing = True
            loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(wait(number))))
        heard.add(number)

    try:
        for number in before:
            signal.signal(number, hear)
    except ValueError:  # not the main thread: whoever runs the loop there stops it in his own way
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class PatientProtocol(H11Protocol):
    """HTTP/1.1 with a limit to patience: the head of a request has :data:`HEADER_SECONDS` to arrive."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin()

    def data_received(self, data: bytes) -> None:
        if self._patience is None and (self.cycle is None or self.cycle.response_complete):
            self._begin()
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def _begin(self) -> None:
        self._patience = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _end(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()


def look_at_the_door(settings: ServeSettings) -> None:
    """Raises OptionError when strangers could reach a server without keys."""
    if settings.keys or settings.is_local:
        return
    host = settings.host
    if not settings.allow_open:
        raise OptionError(
            f"{host} can be reached from other machines: set a key (--api-key, HUAYU_API_KEYS), or let everyone in "
            "with HUAYU_ALLOW_OPEN=1.",
            f"其他机器可以访问 {host}：请设置密钥（--api-key、HUAYU_API_KEYS），"
            "或用 HUAYU_ALLOW_OPEN=1 允许任何人访问。",
        )
    sys.stderr.write(
        f"!!! NO KEY: anyone who can reach {host}:{settings.port} can use this server.\n"
        f"!!! 未设密钥：凡能访问 {host}:{settings.port} 的人都可使用本服务。\n"
    )
