"""What stands before the page: its language is chosen, and the browser is told to ask nobody else for anything."""

from __future__ import annotations

from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

from huayu.webui.words import Language

COOKIE = "huayu_language"
HERE = Path(__file__).parent
# Gradio's own code needs inline scripts and styles, eval, blobs (camera, downloads) and data URLs; nothing from afar.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' blob: data:; base-uri 'self'; form-action 'self'"
)


def chosen_language(headers: dict[bytes, bytes]) -> Language:
    """What the switch on the page was last set to, else what the browser would rather read."""
    kept = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(COOKIE)
    if kept is not None:
        return "zh" if kept.value == "zh" else "en"
    wishes = []
    for place, part in enumerate(headers.get(b"accept-language", b"").decode("latin-1").lower().split(",")):
        name, _, weight = part.strip().partition(";q=")
        number = float(weight) if weight.replace(".", "", 1).isdecimal() else 1.0
        if name[:2] in ("zh", "en"):
            wishes.append((-number, place, name[:2]))
    return "zh" if min(wishes, default=(0, 0, "en"))[2] == "zh" else "en"


class Front:
    """ASGI middleware around Gradio's application.

    ``/`` is the English page and ``/zh`` the Chinese one; who comes to ``/`` and reads Chinese is sent on. Pages get
    their language, a script that comes before Gradio's own, and a policy under which the browser loads nothing from
    another host.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
        headers = dict(scope["headers"])
        asks = scope["method"] == "GET" and b"text/html" in headers.get(b"accept", b"")
        if asks and not path and not scope["query_string"] and chosen_language(headers) == "zh":
            there = b"zh" if scope["path"].endswith("/") else scope["path"].rpartition("/")[2].encode() + b"/zh"
            fields = [(b"location", there), (b"vary", b"accept-language, cookie"), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 307, "headers": fields})
            return await send({"type": "http.response.body", "body": b""})
        page = _Page("zh" if path == "/zh" else "en", send)
        return await self.app(scope, receive, page)


class _Page:
    """Passes everything on, but rewrites the one HTML page."""

    def __init__(self, language: Language, send: Any) -> None:
        self.language, self.send = language, send
        self.start: dict[str, Any] | None = None
        self.body = b""

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            kind = dict(message["headers"]).get(b"content-type", b"")
            if kind.startswith(b"text/html"):
                self.start = message
                return
        if self.start is None:
            await self.send(message)
            return
        self.body += message.get("body", b"")
        if not message.get("more_body"):
            await self._finish(message)

    async def _finish(self, message: dict[str, Any]) -> None:
        assert self.start is not None
        tag = "zh-CN" if self.language == "zh" else "en"
        script = f"<script>window.huayu_language = {tag!r};\n{(HERE / 'early.js').read_text('utf-8')}</script>"
        body = self.body.replace(b'lang="en"', f'lang="{tag}"'.encode(), 1)
        body = body.replace(b"<head>", b"<head>" + script.encode(), 1)
        kept = [(name, value) for name, value in self.start["headers"] if name != b"content-length"]
        fields = [
            *kept,
            (b"content-length", str(len(body)).encode()),
            (b"content-security-policy", _POLICY.encode()),
            (b"referrer-policy", b"same-origin"),
            (b"cache-control", b"no-store"),
        ]
        await self.send({**self.start, "headers": fields})
        await self.send({**message, "body": body})
