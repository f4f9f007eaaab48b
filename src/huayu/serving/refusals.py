"""Saying no: what a request is told that is over a cap, comes at a bad time, or has no key."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from huayu.serving import errors
from huayu.serving.settings import ServeSettings

LINGER_SECONDS = 5.0


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


def too_long(settings: ServeSettings) -> Refusal:
    """The body is over the cap."""
    cap = settings.max_body_bytes
    return Refusal(413, "body_too_large", f"The request is over the cap of {cap} bytes.", f"请求超过 {cap} 字节上限。")


def closing() -> Refusal:
    """No new requests."""
    return Refusal(503, "closing", "The server is closing.", "服务正在关闭。", retry_after=5)


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
