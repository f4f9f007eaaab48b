"""Keys: who may ask. A middleware, so that mounts, documents and unknown paths are guarded as well."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from huayu.serving.limits import is_page
from huayu.serving.refusals import Refusal, refuse
from huayu.serving.settings import ServeSettings

OPEN = frozenset({"/health"})


class Keys:
    """Middleware: a request without one of the keys gets 401, on every path but :data:`OPEN`.

    ``Authorization: Bearer KEY``; for the page also Basic (any name, password KEY), which a browser asks for by itself
    and would send along with other sites' requests elsewhere.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self.app, self.settings = app, settings
        self._digests = [_digest(key.encode()) for key in settings.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in OPEN or self._knows(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            refusal = Refusal(401, "invalid_api_key", "A valid API key is needed.", "需要有效的 API 密钥。")
            if is_page(scope, self.settings):
                refusal.headers["WWW-Authenticate"] = 'Basic realm="huayu", charset="UTF-8"'
            await refuse(refusal, scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        scheme, _, value = Headers(scope=scope).get("authorization", "").partition(" ")
        key = value.strip().encode("latin-1")
        if scheme.lower() == "basic" and is_page(scope, self.settings):
            try:
                key = base64.b64decode(key, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif scheme.lower() != "bearer":
            return False
        digest = _digest(key)
        # Every key is compared, whole: the time taken tells nothing.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def install(app: Starlette, settings: ServeSettings) -> None:
    """Guard ``app`` when there are keys. Raises OptionError for a file of keys that cannot be used."""
    if settings.keys:
        app.add_middleware(Keys, settings=settings)
        if isinstance(app, FastAPI):
            _describe(app)


def _describe(app: FastAPI) -> None:
    """The document of the API says which routes want a key."""
    plain = app.openapi

    def document() -> dict[str, Any]:
        said = plain()
        said.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operations in said["paths"].items():
            for operation in operations.values():
                operation["security"] = [] if path in OPEN else [{"key": []}]
        return said

    app.openapi = document  # type: ignore[method-assign]
