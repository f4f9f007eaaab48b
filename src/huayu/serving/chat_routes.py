"""``/v1/chat/completions``: messages → a conversation and a question → tickets → one answer, or a stream of it."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from huayu.chat.options import ChatOptions
from huayu.chat.run import ChatReply
from huayu.errors import Cancelled
from huayu.serving import limits, schemas
from huayu.serving.engine import ChatJob, Engine, Job, Piece, Ticket
from huayu.serving.errors import BadRequest, described, language
from huayu.serving.messages import conversation_of, count_pictures
from huayu.serving.settings import ServeSettings

router = APIRouter()
_FINISH: dict[str, schemas.FinishReason] = {"stop": "stop", "length": "length", "refused": "content_filter"}
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}


@router.post("/v1/chat/completions", response_model=schemas.ChatCompletion, responses=_STREAM | schemas.ERRORS)
async def chat_completions(asked: schemas.ChatRequest, request: Request) -> Any:
    """An answer to the last message, or with ``stream`` its pieces as server-sent events."""
    settings: ServeSettings = request.app.state.settings
    request.app.state.shelf.require(asked.model, "chat")
    options = _options(asked, settings)
    if asked.stream_options is not None and not asked.stream:
        raise BadRequest("stream_options is for stream.", "stream_options 只用于 stream。", param="stream_options")
    limits.check(settings, pictures=count_pictures(asked.messages), n=asked.n or 1)
    conversation, question = await conversation_of(asked.messages, settings)
    jobs = [
        ChatJob(asked.model, question, (), conversation, one, settings.request_timeout_s)
        for one in _for_each(options, asked.n or 1)
    ]
    tickets = await submit_all(request.app.state.engine, jobs)
    head: dict[str, Any] = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": asked.model}
    if not asked.stream:
        replies = [ticket.reply async for ticket in _finished(tickets)]
        for ticket in tickets:
            request.app.state.metrics.answered(ticket)
        return schemas.ChatCompletion(
            **head, choices=[*map(_choice, range(len(replies)), replies)], usage=_usage(replies)
        )
    events = together(tickets)
    first = [await anext(events)]  # what fails before the first piece is an ordinary error
    usage = asked.stream_options is not None and asked.stream_options.include_usage
    stream = _stream(first, events, tickets, head, usage, request)
    return EventStream(stream, tickets)


def _options(asked: schemas.ChatRequest, settings: ServeSettings) -> ChatOptions:
    if asked.max_tokens is not None and asked.max_completion_tokens not in (None, asked.max_tokens):
        raise BadRequest("max_tokens and max_completion_tokens differ.", "max_tokens 与 max_completion_tokens 不一致。",
                         param="max_completion_tokens")  # fmt: skip
    length = asked.max_completion_tokens or asked.max_tokens
    limits.check(settings, tokens=length)
    sampled = asked.temperature != 0 and (asked.temperature, asked.top_p) != (None, None)
    return ChatOptions(
        search="sample" if sampled else "greedy" if asked.temperature == 0 else None,
        temperature=asked.temperature or None,
        top_p=asked.top_p if sampled else None,
        frequency_penalty=asked.frequency_penalty,
        presence_penalty=asked.presence_penalty,
        max_new_tokens=length,
        seed=asked.seed,
        stop=asked.stop or (),
        json_schema=_schema(asked.response_format),
    )


def _schema(wanted: schemas.Format | None) -> str | None:
    if isinstance(wanted, schemas.SchemaFormat):
        return json.dumps(wanted.json_schema.json_schema, ensure_ascii=False)
    return '{"type": "object"}' if wanted is not None and wanted.type == "json_object" else None


def _for_each(options: ChatOptions, n: int) -> list[ChatOptions]:
    """Every choice has a seed of its own."""
    if options.seed is None:
        return [options] * n
    return [replace(options, seed=(options.seed + index) % 2**63) for index in range(n)]


async def submit_all(engine: Engine, jobs: Sequence[Job]) -> list[Ticket]:
    """All or none."""
    tickets: list[Ticket] = []
    try:
        for job in jobs:
            tickets.append(await engine.submit(job))  # noqa: PERF401 (those before a failure must be known)
    except BaseException:
        cancel_all(tickets)
        raise
    return tickets


def cancel_all(tickets: Iterable[Ticket]) -> None:
    """What is finished is not changed by it."""
    for ticket in tickets:
        ticket.cancel()


async def _finished(tickets: Sequence[Ticket]) -> AsyncIterator[Ticket]:
    """Each one once it is done; when one fails or nobody waits any more, none goes on."""
    try:
        for ticket in tickets:
            await ticket.finished()
            _require_whole(ticket)
            yield ticket
    finally:
        cancel_all(tickets)


def _require_whole(ticket: Ticket) -> None:
    """Half an answer is only for those who wanted it cancelled. Raises Cancelled."""
    if ticket.reply.finish == "cancelled":
        raise Cancelled


async def together(tickets: Sequence[Ticket]) -> AsyncIterator[tuple[int, Piece | None]]:
    """Events of all tickets as they come, by the ticket's index; None is its end. Raises what any of them does."""
    events: asyncio.Queue[tuple[int, Piece | BaseException | None]] = asyncio.Queue()

    async def take(index: int, ticket: Ticket) -> None:
        try:
            async for event in ticket:
                events.put_nowait((index, event))
            _require_whole(ticket)
            events.put_nowait((index, None))
        except Exception as error:
            events.put_nowait((index, error))

    tasks = [asyncio.create_task(take(index, ticket)) for index, ticket in enumerate(tickets)]
    left = len(tasks)
    try:
        while left:
            index, event = await events.get()
            if isinstance(event, BaseException):
                raise event
            left -= event is None
            yield index, event
    finally:
        cancel_all(tickets)
        for task in tasks:
            task.cancel()


class EventStream(StreamingResponse):
    """Server-sent events; however it ends, its tickets end with it."""

    def __init__(self, lines: AsyncIterator[str], tickets: Sequence[Ticket]) -> None:
        super().__init__(lines, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self.tickets = tickets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            cancel_all(self.tickets)


async def _stream(
    first: list[tuple[int, Piece | None]],
    events: AsyncIterator[tuple[int, Piece | None]],
    tickets: Sequence[Ticket],
    head: dict[str, Any],
    include_usage: bool,
    request: Request,
) -> AsyncIterator[str]:
    def line(choices: list[dict[str, Any]], **more: Any) -> str:
        extra = {"usage": None} if include_usage else {}
        return _data({**head, "object": "chat.completion.chunk", "choices": choices, **extra, **more})

    def delta(index: int, content: dict[str, str], **more: Any) -> str:
        return line([{"index": index, "delta": content, "logprobs": None, "finish_reason": None, **more}])

    for index in range(len(tickets)):
        yield delta(index, {"role": "assistant", "content": ""})
    try:
        async for index, event in _chained(first, events):
            if event is None:
                reply = tickets[index].reply
                request.app.state.metrics.answered(tickets[index])
                yield delta(index, {}, finish_reason=_FINISH[reply.finish], huayu=_extras(reply).model_dump())
            else:
                yield delta(index, {"content": event.text})
    except Exception as error:
        yield _data(described(error, language(request))[1])
        return
    if include_usage:
        yield line([], usage=_usage([ticket.reply for ticket in tickets]).model_dump())
    yield "data: [DONE]\n\n"


async def _chained(first: Iterable[Any], rest: AsyncIterator[Any]) -> AsyncIterator[Any]:
    for item in first:
        yield item
    async for item in rest:
        yield item


def _data(record: dict[str, Any]) -> str:
    return f"data: {json.dumps(record, ensure_ascii=False)}\n\n"


def _choice(index: int, reply: ChatReply) -> schemas.Choice:
    message = schemas.ReplyOut(content=reply.text)
    return schemas.Choice(index=index, message=message, finish_reason=_FINISH[reply.finish], huayu=_extras(reply))


def _extras(reply: ChatReply) -> schemas.ChatExtras:
    verdicts = [schemas.VerdictOut(**asdict(verdict)) for verdict in reply.verdicts]
    return schemas.ChatExtras(verdicts=verdicts, language=reply.language, dropped_turns=reply.dropped_turns)


def _usage(replies: Sequence[ChatReply]) -> schemas.UsageOut:
    """The prompt once, since all choices answer it; what was written for each."""
    read = replies[0].usage.prompt_tokens
    written = sum(reply.usage.completion_tokens for reply in replies)
    return schemas.UsageOut(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)
