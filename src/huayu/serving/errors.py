"""Whatever goes wrong, as OpenAI's clients read it: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from huayu.errors import (
    Cancelled,
    HuayuError,
    ImageError,
    ModelError,
    OptionError,
    OutOfMemory,
    PictureTooLarge,
    PromptError,
)
from huayu.serving.engine import Busy, DeadlineExceeded

_LOG = logging.getLogger("huayu.serving")
_INVALID = "invalid_request_error"
# Most special first. What is not here is a fault of ours.
_KNOWN: tuple[tuple[type[HuayuError], int, str, str], ...] = (
    (Busy, 429, "rate_limit_error", "queue_full"),
    (DeadlineExceeded, 408, "timeout_error", "deadline_exceeded"),
    (OutOfMemory, 503, "server_error", "out_of_memory"),
    (Cancelled, 503, "server_error", "cancelled"),
    (PictureTooLarge, 413, _INVALID, "image_too_large"),
    (ImageError, 400, _INVALID, "invalid_image"),
    (PromptError, 400, _INVALID, "invalid_prompt"),
    (OptionError, 400, _INVALID, "invalid_value"),
)


class BadRequest(HuayuError):
    """What a request says cannot be done. ``status``, ``kind``, ``param``, ``code``, ``headers`` are for the answer."""

    kind = _INVALID

    def __init__(self, en: str, zh: str, *, param: str | None = None, code: str = "invalid_value", status: int = 400):
        super().__init__(en, zh)
        self.param, self.code, self.status = param, code, status
        self.headers: dict[str, str] = {}


def language(request: Request) -> str:
    """``"zh"`` or ``"en"``: the one that Accept-Language names first; English when it names neither."""
    wanted = request.headers.get("accept-language", "").lower()
    ranks = {name: at for name in ("zh", "en") if (at := wanted.find(name)) >= 0}
    return min(ranks, key=lambda name: ranks[name], default="en")


def body(message: str, kind: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The JSON of an error."""
    detail = {"message": message, "type": kind, "param": param, "code": code}
    # What is quoted may be half a character, which no answer can hold.
    return {"error": {name: text and text.encode(errors="replace").decode() for name, text in detail.items()}}


def answer(error: BaseException, spoken: str) -> JSONResponse:
    """The response to what was raised, in ``"zh"`` or ``"en"``. Details of a fault of ours are in the log alone."""
    status, content, headers = described(error, spoken)
    return JSONResponse(content, status, headers)


def described(error: BaseException, spoken: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, JSON and headers."""
    headers: dict[str, str] = {}
    if isinstance(error, HuayuError):
        message = error.zh if spoken == "zh" else error.en
        if isinstance(error, BadRequest):
            return error.status, body(message, error.kind, param=error.param, code=error.code), error.headers
        if isinstance(error, ModelError) and not isinstance(error, OutOfMemory):
            return 404, body(message, _INVALID, param="model", code="model_not_found"), headers
        for kind, status, name, code in _KNOWN:
            if isinstance(error, kind):
                if isinstance(error, Busy):
                    headers["Retry-After"] = str(error.retry_after_s)
                    if error.closing:
                        status, name, code = 503, "server_error", "closing"
                return status, body(message, name, code=code), headers
    _LOG.error("A request failed", exc_info=error)
    ours = "服务内部出错。" if spoken == "zh" else "The server failed."
    return 500, body(ours, "server_error", code="internal_error"), headers


def install(app: FastAPI) -> None:
    """Let every error leave as described."""

    async def known(request: Request, error: Exception) -> JSONResponse:
        return answer(error, language(request))

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        place = [str(part) for part in first["loc"] if part not in ("body", "query", "header")]
        param = ".".join(place) or None
        said = f"{param or 'body'}: {first['msg']}"
        text = f"请求有误：{said}" if language(request) == "zh" else f"The request is not valid: {said}"
        return JSONResponse(body(text, _INVALID, param=param, code="invalid_value"), 400)

    async def plain(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return JSONResponse(body(str(error.detail), _INVALID), error.status_code, error.headers)

    app.add_exception_handler(HuayuError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(Exception, known)
