"""Caps on what one request and all of them together may take: bytes, pixels, tokens, pictures, time."""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import anyio
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from huayu.data.pictures import MAX_PIXELS, decode_picture, picture_size
from huayu.errors import ImageError, PictureTooLarge
from huayu.serving import errors
from huayu.serving.settings import ServeSettings

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
LINGER_SECONDS = 2.0
_BYTES_PER_PIXEL = 3


class Refusal(errors.BadRequest):
    """A request is over a cap, comes at a bad time, or without a key."""

    def __init__(self, status: int, code: str, en: str, zh: str, *, param: str | None = None, retry_after: float = 0):
        super().__init__(en, zh, param=param, code=code, status=status)
        kinds = {401: "authentication_error", 408: "timeout_error", 429: "rate_limit_error", 503: "server_error"}
        self.kind = kinds.get(status, self.kind)
        if status == 401:
            self.headers["WWW-Authenticate"] = "Bearer"
        if status in (429, 503):
            self.headers["Retry-After"] = str(max(1, round(retry_after)))


@dataclass
class Gate:
    """What one process is doing: requests running, bytes they hold; ``closing``: no new ones."""

    max_bytes: int
    running: int = 0
    held: int = 0
    closing: bool = False
    decoders: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(2))


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
            self._stop()
        return message

    async def _end(self, why: Refusal) -> None:
        """Does not come back: the clock cancels whoever waits. Not raised, since frameworks catch what is."""
        self.why = why
        self._stop()
        await asyncio.Event().wait()

    def _stop(self) -> None:
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
        self.gate.running += not page
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
            self.gate.running -= not page
            _current.reset(token)
            request.close()

    def _at_the_door(self, scope: Scope) -> Refusal | None:
        if self.gate.closing:
            return Refusal(503, "closing", "The server is closing.", "服务正在关闭。", retry_after=5)
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self.settings.max_body_bytes:
            return too_long(self.settings)
        return None


def is_page(scope: Scope, settings: ServeSettings) -> bool:
    """True for what belongs to the page."""
    path: str = scope["path"]
    return path == settings.page_path or path.startswith(settings.page_path.rstrip("/") + "/")


def too_long(settings: ServeSettings) -> Refusal:
    """The body is over the cap."""
    cap = settings.max_body_bytes
    return Refusal(413, "body_too_large", f"The request is over the cap of {cap} bytes.", f"请求超过 {cap} 字节上限。")


def too_late(settings: ServeSettings) -> Refusal:
    """The deadline has passed."""
    seconds = f"{settings.request_timeout_s:g}"
    said_en, said_zh = f"The request was not finished after {seconds} s.", f"请求在 {seconds} 秒内未能完成。"
    return Refusal(408, "deadline_exceeded", said_en, said_zh)


async def refuse(refusal: Refusal, scope: Scope, rest: Receive | None, send: Send) -> None:
    """Send it and close the connection. A client still sending the ``rest`` gets a moment to notice."""
    status, content, headers = errors.described(refusal, errors.language(Request(scope)))
    response = JSONResponse(content, status, {**headers, "Connection": "close"})
    await send({"type": "http.response.start", "status": status, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while rest is not None and (await rest()).get("more_body", False):
                """Thrown away."""
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def install(app: Starlette, settings: ServeSettings) -> None:
    """Add the middleware; the gate is ``app.state.gate``."""
    app.state.gate = Gate(settings.max_inflight_bytes)
    app.add_middleware(Limits, gate=app.state.gate, settings=settings)
