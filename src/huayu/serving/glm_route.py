"""``POST /``: VisualGLM's api.py, for its clients. Source: spec visualglm §10."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError

from huayu.chat.conversation import Conversation, Picture, Turn
from huayu.chat.options import ChatOptions
from huayu.errors import Cancelled
from huayu.runtime.language import language_of
from huayu.serving import limits, schemas
from huayu.serving.engine import ChatJob
from huayu.serving.errors import BadRequest
from huayu.serving.settings import ServeSettings

router = APIRouter(responses=schemas.ERRORS)


class GlmRequest(schemas.Strict):
    """``POST /``, as VisualGLM's api.py. ``image``: base64 of a file; ``history``: pairs of question and answer."""

    text: schemas.Text
    image: str
    history: list[Annotated[list[schemas.Text], Field(min_length=2, max_length=2)]] = Field(default=[], max_length=1000)
    max_length: schemas.Count | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None


class GlmResponse(schemas.Answered):
    """``result`` and ``response`` are the same; ``time`` is the server's, local."""

    result: str
    response: str
    history: list[list[str]]
    status: Literal[200] = 200
    time: str


_BODY = {"required": True, "content": {"application/json": {"schema": GlmRequest.model_json_schema()}}}


@router.post("/", response_model=GlmResponse, openapi_extra={"requestBody": _BODY})
async def visualglm(request: Request) -> Any:
    """One answer about a picture by the server's first chat model, whatever the request says it is made of."""
    settings: ServeSettings = request.app.state.settings
    asked = _read(await request.body())
    image = await limits.open_picture(_decoded(asked.image), settings)
    turns = tuple(Turn(question, answer, language_of(answer)) for question, answer in asked.history)
    if turns:  # the picture was shown with the first question
        turns = (Turn(turns[0].question, turns[0].answer, turns[0].language, 1), *turns[1:])
    options = ChatOptions(
        temperature=asked.temperature,
        top_k=asked.top_k,
        top_p=asked.top_p,
        max_length=asked.max_length,
        max_new_tokens=None if asked.max_length is None else min(asked.max_length, settings.max_tokens),
    )
    model = request.app.state.shelf.default("chat")
    conversation = Conversation(turns, (Picture(image),))
    job = ChatJob(model, asked.text, (), conversation, options, settings.request_timeout_s)
    ticket = await request.app.state.engine.submit(job)
    async with ticket:
        reply = await ticket.finished()
    if reply.finish == "cancelled":
        raise Cancelled
    request.app.state.metrics.answered(ticket)
    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
    history = [*asked.history, [asked.text, reply.text]]
    return GlmResponse(result=reply.text, response=reply.text, history=history, time=now)


def _read(body: bytes) -> GlmRequest:
    """Old clients do not always say that it is JSON."""
    try:
        return GlmRequest.model_validate_json(body)
    except ValidationError as problem:
        raise RequestValidationError(problem.errors()) from problem


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as problem:
        raise BadRequest(
            "image is not base64.", "image 不是 base64。", param="image", code="invalid_image"
        ) from problem
