"""Ask an application in this process, message by message: bodies in pieces, clients that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

LEAVE = object()  # after pieces of a body: the client goes away before the rest
WAIT_AND_LEAVE = object()  # after the whole body: the client goes away without waiting for the answer


@dataclass
class Answer:
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error, whose form is checked."""
        content = self.json()
        assert list(content) == ["error"]
        assert set(content["error"]) == {"message", "type", "param", "code"}
        assert isinstance(content["error"]["message"], str)
        return content["error"]


async def ask(
    app: Any,
    method: str,
    path: str,
    *,
    pieces: Iterable[Any] = (),
    headers: dict[str, str] | None = None,
    pause: float = 0,
    leave_when_answering: bool = False,
) -> Answer:
    """One request. ``pieces`` of the body come ``pause`` seconds apart."""
    answer = Answer()
    coming = [*pieces] or [b""]
    over = asyncio.Event()
    path, _, query = path.partition("?")
    named = {"host": "localhost", **(headers or {})}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in named.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }

    async def receive() -> dict[str, Any]:
        if coming:
            await asyncio.sleep(pause)
            piece = coming.pop(0)
            if piece in (LEAVE, WAIT_AND_LEAVE):
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": piece, "more_body": bool(coming) and coming != [WAIT_AND_LEAVE]}
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert answer.status is None
            answer.status = message["status"]
            answer.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            answer.body += message.get("body", b"")
            answer.complete = not message.get("more_body", False)
        if answer.complete or leave_when_answering:
            over.set()

    await app(scope, receive, send)
    return answer


def post(app: Any, path: str, body: Any, **headers: str) -> Answer:
    """A POST of JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {"content-type": "application/json", "content-length": str(len(data)), **named}
    return asyncio.run(ask(app, "POST", path, pieces=[data], headers=sent))


def get(app: Any, path: str, **headers: str) -> Answer:
    return asyncio.run(
        ask(app, "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    )
