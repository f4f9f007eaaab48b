"""Caps on what one request and all of them together may take: bytes, pixels, tokens, pictures, time."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from huayu.data.pictures import MAX_PIXELS, decode_picture, picture_size
from huayu.errors import ImageError, PictureTooLarge
from huayu.serving.refusals import Refusal, closing, refuse, too_late, too_long
from huayu.serving.settings import ServeSettings

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_BYTES_PER_PIXEL = 3


@dataclass
class Gate:
    """What one process is doing: requests running (not the page's), bytes held; ``closing``: no new ones."""

    max_bytes: int
    held: int = 0
    closing: bool = False
    requests: set[_Request] = field(default_factory=set)
    decoders: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(2))

    @property
    def running(self) -> int:
        return len(self.requests)

    def cut(self) -> None:
        """End what is still running: 503, or the end of a stream."""
        for request in self.requests:
            request.stop(closing())


_current: ContextVar[_Request | None] = ContextVar("request", default=None)


def hold(size: int) -> None:
    """Count ``size`` more bytes of memory to the request being served, until it ends. Raises Refusal (429)."""
    request = _current.get()
    if request is not None:
        request.hold(size)


def check(settings: ServeSettings, *, pictures: int = 0, tokens: int | None = None, n: int = 1) -> None:
    """Raises Refusal (400) that names the cap."""
    asked = (("messages", pictures, settings.max_pictures, "pictures", "图片"),
             ("max_tokens", tokens or 0, settings.max_tokens, "tokens", "词元"),
             ("n", n, settings.max_n, "results", "结果"))  # fmt: skip
    for param, value, cap, en, zh in asked:
        if value > cap:
            said_en, said_zh = (
                f"{value} {en} are asked for; the cap is {cap}.",
                f"请求了 {value} 个{zh}；上限为 {cap}。",
            )
            raise Refusal(400, "over_cap", said_en, said_zh, param=param)


async def open_picture(data: bytes, settings: ServeSettings) -> Image.Image:
    """RGB pixels of a PNG, JPEG, WebP or (first frame) GIF; sized up first, decoded off the event loop.

    Raises ImageError, PictureTooLarge, Refusal (429) when the server holds too many pixels already.
    """
    cap = settings.max_pixels or MAX_PIXELS
    request = _current.get()
    try:
        width, height = picture_size(data, formats=FORMATS, max_pixels=cap)
        hold(width * height * _BYTES_PER_PIXEL)
        decode = partial(decode_picture, data, formats=FORMATS, max_pixels=cap)
        return await anyio.to_thread.run_sync(decode, limiter=request.gate.decoders if request else None)
    except ImageError as problem:
        if problem.__cause__ is None or isinstance(problem, PictureTooLarge):
            raise
        # What a decoder says may name objects of ours.
        raise ImageError("The picture is damaged or cut short.", "图片已损坏或不完整。") from problem


class _Request:
    """One request on its way through: what it holds, and why it was ended early."""

    def __init__(self, gate: Gate, settings: ServeSettings, receive: Receive, send: Send) -> None:
        self.gate, self.settings = gate, settings
        self._receive, self._send = receive, send
        self.clock: asyncio.Timeout | None = None
        self.why: Refusal | None = None  # ended early for this
        self.started = self.finished = self.gone = self.whole = False
        self._held = self._body = 0
        self._watcher: asyncio.Task[Message] | None = None

    def hold(self, size: int) -> None:
        if self.gate.held + size > self.gate.max_bytes:
            raise Refusal(429, "memory_full", "The server holds too much at once; try again.",
                          "服务器当前处理的数据过多；请稍后重试。", retry_after=2)  # fmt: skip
        self.gate.held += size
        self._held += size

    def close(self) -> None:
        self.gate.held -= self._held
        if self._watcher is not None:
            self._watcher.cancel()

    async def receive(self) -> Message:
        if self._watcher is not None:
            return await asyncio.shield(self._watcher)
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
            return message
        size = len(message.get("body", b""))
        self._body += size
        try:
            if self._body > self.settings.max_body_bytes:
                raise too_long(self.settings)
            self.hold(size)
        except Refusal as why:
            await self._end(why)
        if not message.get("more_body", False):
            self.whole = True
            self._watcher = asyncio.create_task(self._watch())
        return message

    async def send(self, message: Message) -> None:
        self.started = True
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.finished = True  # the client may go now
        await self._send(message)

    async def _watch(self) -> Message:
        """Wait for the client to leave, and end what is done for it."""
        message = await self._receive()
        if not self.finished:
            self.gone = True
            self.stop()
        return message

    async def _end(self, why: Refusal) -> None:
        """Does not come back: the clock cancels whoever waits. Not raised, since frameworks catch what is."""
        self.stop(why)
        await asyncio.Event().wait()

    def stop(self, why: Refusal | None = None) -> None:
        """Cancel what is done for it."""
        self.why = self.why or why
        if self.clock is not None and not self.clock.expired():
            self.clock.reschedule(asyncio.get_running_loop().time())


class Limits:
    """Middleware: body and memory caps, the deadline, the end of a request whose client has left, closing time."""

    def __init__(self, app: ASGIApp, gate: Gate, settings: ServeSettings) -> None:
        self.app, self.gate, self.settings = app, gate, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._at_the_door(scope)
        if refusal is not None:
            await refuse(refusal, scope, receive, send)
            return
        request = _Request(self.gate, self.settings, receive, send)
        token = _current.set(request)
        page = is_page(scope, self.settings)  # its event streams stay open as long as it is looked at
        if not page:
            self.gate.requests.add(request)
        try:
            async with asyncio.timeout(None if page else self.settings.request_timeout_s) as request.clock:
                await self.app(scope, request.receive, request.send)
        except ClientDisconnect:
            """It left within its body."""
        except TimeoutError:
            if request.clock is None or not request.clock.expired():
                raise
            if not request.gone and not request.started:
                rest = None if request.whole else receive
                await refuse(request.why or too_late(self.settings), scope, rest, send)
        finally:
            self.gate.requests.discard(request)
            _current.reset(token)
            request.close()

    def _at_the_door(self, scope: Scope) -> Refusal | None:
        if self.gate.closing:
            return closing()
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self.settings.max_body_bytes:
            return too_long(self.settings)
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and self._is_another_sites(headers):
            return Refusal(403, "cross_site", "Other sites' pages may not ask this.", "不接受其他网站页面的请求。")
        return None

    def _is_another_sites(self, headers: Headers) -> bool:
        """What a browser says of a page of another site, which could make it ask without being allowed to look."""
        origin = headers.get("origin")
        if origin in (None, *self.settings.cors_origins) or "*" in self.settings.cors_origins:
            return False
        fetch_site = headers.get("sec-fetch-site")
        if fetch_site is not None:
            return fetch_site not in ("same-origin", "none")
        return urlsplit(origin).netloc != headers.get("host")


def is_page(scope: Scope, settings: ServeSettings) -> bool:
    """True for what belongs to the page."""
    path: str = scope["path"]
    return path == settings.page_path or path.startswith(settings.page_path.rstrip("/") + "/")


def install(app: Starlette, settings: ServeSettings) -> None:
    """Add the middleware; the gate is ``app.state.gate``."""
    app.state.gate = Gate(settings.max_inflight_bytes)
    app.add_middleware(Limits, gate=app.state.gate, settings=settings)
