"""The log: one JSON object a line, one line a request; what users say stays out of it unless asked for."""

from __future__ import annotations

import json
import logging
import time
import traceback
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from huayu.errors import CheckpointError
from huayu.serving import errors
from huayu.serving.settings import ServeSettings

REQUESTS = logging.getLogger("huayu.requests")
MAX_CONTENT = 16 * 1024
# What these say is about this machine; the words of other errors may be a user's.
_TELLING = (OSError, MemoryError, ImportError, CheckpointError)
_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class JsonFormatter(logging.Formatter):
    """``extra={"fields": {…}}`` of a record becomes keys of the line. Of errors: kind and places, and words if safe."""

    def __init__(self, content: bool = False) -> None:
        super().__init__()
        self.content = content

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            "request_id": _request_id.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = self._told(record.exc_info[1])
        return json.dumps({key: value for key, value in line.items() if value is not None}, ensure_ascii=False)

    def _told(self, error: BaseException) -> dict[str, Any]:
        frames = traceback.extract_tb(error.__traceback__)
        told: dict[str, Any] = {
            "kind": type(error).__qualname__,
            "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]],
        }
        if self.content or isinstance(error, _TELLING):
            told["message"] = str(error)
        cause = error.__cause__
        return {**told, "cause": self._told(cause)} if cause is not None else told


class RequestLog:
    """Middleware: an id for each request (``X-Request-Id``) and a line when it has ended."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, name = time.perf_counter(), uuid.uuid4().hex
        token = _request_id.set(name)
        # Not the query: it may hold what a user says. Of paths, only those that are ours.
        fields: dict[str, Any] = {"method": scope["method"], "status": None, "bytes_in": 0, "bytes_out": 0}
        asked, answered = bytearray(), bytearray()

        async def reading() -> Message:
            message = await receive()
            body = message.get("body", b"")
            fields["bytes_in"] += len(body)
            if self.settings.log_content:
                asked.extend(body[: MAX_CONTENT - len(asked)])
            return message

        async def writing(message: Message) -> None:
            if message["type"] == "http.response.start":
                fields["status"] = message["status"]
                message = {**message, "headers": [*message.get("headers", []), (b"x-request-id", name.encode())]}
            body = message.get("body", b"")
            fields["bytes_out"] += len(body)
            if self.settings.log_content:
                answered.extend(body[: MAX_CONTENT - len(answered)])
            await send(message)

        try:
            await self.app(scope, reading, writing)
        except Exception as error:  # a fault of ours; here, so that it has its line, its id and its headers
            response = errors.answer(error, errors.language(Request(scope)))
            if fields["status"] is None:
                await response(scope, receive, writing)
        finally:
            fields["route"] = getattr(scope.get("route"), "path", None)
            fields["seconds"] = round(time.perf_counter() - begin, 4)
            if self.settings.log_content:
                fields |= {"asked": asked.decode(errors="replace"), "answered": answered.decode(errors="replace")}
            if scope["path"] != "/health" or fields["status"] != 200:
                REQUESTS.info("request", extra={"fields": fields})
            _request_id.reset(token)


def configuration(settings: ServeSettings) -> dict[str, Any]:
    """For ``logging.config.dictConfig``: everything to stderr, as JSON."""
    ours = {"handlers": ["stderr"], "level": "INFO", "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "huayu.serving.logs.JsonFormatter", "content": settings.log_content}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "loggers": {"huayu": ours, "uvicorn": ours},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
    }


def install(app: Starlette, settings: ServeSettings) -> None:
    """Add the middleware. Where lines go is the program's: see :func:`configuration`."""
    app.add_middleware(RequestLog, settings=settings)
