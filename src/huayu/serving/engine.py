"""The one queue: jobs in, tickets out. Behind it, chat jobs that can share a batch do. No torch at import."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol, cast

from huayu.errors import Cancelled, HuayuError, OutOfMemory
from huayu.serving.jobs import Busy, ChatJob, DeadlineExceeded, EngineStats, Job, PaintJob, Piece, Ticket
from huayu.serving.shelf import collect

if TYPE_CHECKING:
    from huayu.chat import ChatModel
    from huayu.paint import Painter
    from huayu.serving.shelf import Shelf

__all__ = [
    "BatchingEngine",
    "Busy",
    "ChatJob",
    "DeadlineExceeded",
    "Engine",
    "EngineStats",
    "Job",
    "PaintJob",
    "Piece",
    "Ticket",
]
_MOMENT = 0.004


class Engine(Protocol):
    """What every surface talks to; nothing outside this file knows how jobs are run."""

    async def submit(self, job: Job) -> Ticket:
        """Queue a job. Raises Busy at once when the queue is full or closing, ModelError for an unknown model."""

    async def drain(self, seconds: float) -> None:
        """Take no more jobs; give those there are so long to finish, then cancel them."""

    def stats(self) -> EngineStats:
        """How busy it is."""


class BatchingEngine:
    """One thread for each model; waiting chat jobs with equal options are answered in one batch."""

    def __init__(self, shelf: Shelf, max_queue: int = 64, max_batch: int = 8) -> None:
        self._shelf, self._max_queue, self._max_batch = shelf, max_queue, max_batch
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[Ticket]] = {}
        self._running: set[Ticket] = set()
        self._closing = False
        self._batches = self._rows = 0
        self._seconds = 0.0  # a job's share of its batch, lately

    async def submit(self, job: Job) -> Ticket:
        """See :class:`Engine`."""
        self._shelf.require(job.model, job.kind)
        with self._changed:
            if self._closing or self._queued() >= self._max_queue:
                wait = math.ceil(self._seconds * self._queued())
                raise Busy(min(max(1, wait), 60), closing=self._closing)
            ticket = Ticket(job)
            ticket.on_cancel = lambda: self._forget(ticket)
            if job.model not in self._waiting:
                self._waiting[job.model] = deque()
                name = f"huayu-engine-{job.model}"
                threading.Thread(target=self._work, args=(job.model,), name=name, daemon=True).start()
            self._waiting[job.model].append(ticket)
            self._changed.notify_all()
        return ticket

    def _forget(self, ticket: Ticket) -> None:
        """Of a job that is cancelled while it waits."""
        with self._changed:
            waiting = self._waiting[ticket.job.model]
            if ticket not in waiting:
                return
            waiting.remove(ticket)
        ticket.end(error=Cancelled())

    async def drain(self, seconds: float) -> None:
        """See :class:`Engine`."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        end = time.monotonic() + seconds
        while self._left() and time.monotonic() < end:
            await asyncio.sleep(0.02)
        for ticket in self._left():
            ticket.cancel()
        while self._left():
            await asyncio.sleep(0.02)

    def stats(self) -> EngineStats:
        """See :class:`Engine`."""
        with self._changed:
            return EngineStats(self._queued(), len(self._running), self._batches, self._rows)

    def _queued(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _left(self) -> list[Ticket]:
        with self._changed:
            return [*self._running, *(ticket for waiting in self._waiting.values() for ticket in waiting)]

    def _work(self, model: str) -> None:
        group: list[Ticket] = []
        while group := self._next(model, many=len(group) > 1):
            begin = time.monotonic()
            try:
                self._run(model, group)
            except BaseException as error:  # whatever it was, it ends these jobs and not the server
                for ticket in group:
                    ticket.end(error=error)
            finally:
                with self._changed:
                    self._running.difference_update(group)
                    self._seconds = (self._seconds + (time.monotonic() - begin) / len(group)) / 2
                    self._changed.notify_all()

    def _next(self, model: str, many: bool) -> list[Ticket]:
        """The job that waited longest, and those that can go with it; none when the engine has closed.

        ``many``: several were answered together just now; who asked them may ask again in a moment.
        """
        with self._changed:
            waiting = self._waiting[model]
            while not waiting:
                if self._closing:
                    return []
                self._changed.wait()
            if many and len(waiting) < self._max_batch:
                self._changed.wait_for(lambda: len(waiting) >= self._max_batch, _MOMENT)
                if not waiting:  # cancelled meanwhile
                    return self._next(model, many=False)
            first = waiting.popleft()
            group, batch = [first], first.job.batch
            if batch is not None:
                group += [ticket for ticket in waiting if ticket.job.batch == batch][: self._max_batch - 1]
                for ticket in group[1:]:
                    waiting.remove(ticket)
            self._running.update(group)
            self._batches, self._rows = self._batches + 1, self._rows + len(group)
            return group

    def _run(self, model: str, group: list[Ticket]) -> None:
        first = group[0]
        with self._shelf.use(model, first.job.kind) as opened:
            if isinstance(first.job, ChatJob):
                _chat(opened, group)
            else:
                _paint(opened, first)


def _chat(model: ChatModel, tickets: list[Ticket]) -> None:
    """Answer a batch; one that does not fit into memory is answered again in halves, a single job then fails."""
    parts, told = [tickets], dict.fromkeys(tickets, "")
    while parts:
        group = parts.pop()
        left, problem = _answer(model, group, told)
        if problem is not None and len(group) == 1:
            group[0].end(error=problem)
        elif left:
            collect()
            half = (len(left) + 1) // 2
            parts += filter(None, [left[half:], left[:half]])


def _answer(
    model: ChatModel, tickets: list[Ticket], told: dict[Ticket, str]
) -> tuple[list[Ticket], OutOfMemory | None]:
    """One batch; a job that is refused, cancelled or finished leaves the others as they are.

    ``told``: what a job was given before, which is not given again. Returns the jobs that memory did not last for.
    """
    rows, asked = [], []
    options = cast("ChatJob", tickets[0].job).options
    for ticket in tickets:
        job = cast("ChatJob", ticket.job)
        try:
            if ticket.cancelled.is_set():
                raise Cancelled
            rows.append(model.prepare((job.pictures, job.question, job.conversation), options))
            asked.append(ticket)
        except HuayuError as error:
            ticket.end(error=error)
    if not rows:
        return [], None
    run = model.start(rows, options)
    for index, ticket in enumerate(asked):
        ticket.on_cancel = lambda row=index: run.cancel_row(row)
        if ticket.cancelled.is_set():
            run.cancel_row(index)
    open_rows, texts = set(range(len(asked))), [""] * len(asked)
    try:
        for row, text in run:
            texts[row] += text
            if row in open_rows and not _tell(asked[row], texts[row], told):
                open_rows.discard(row)
                run.cancel_row(row)
            for index in [i for i in open_rows if run.reply(i) is not None]:
                open_rows.discard(index)
                asked[index].end(run.reply(index))
    except OutOfMemory as problem:
        return [asked[index] for index in sorted(open_rows)], problem.with_traceback(None)
    for index in open_rows:
        asked[index].end(run.reply(index))
    return [], None


def _tell(ticket: Ticket, text: str, told: dict[Ticket, str]) -> bool:
    """Pass on what is new of an answer; False, and the end, when a second try says otherwise than the first."""
    known = told[ticket]
    if not text.startswith(known[: len(text)]):
        ticket.end(error=OutOfMemory())
        return False
    if len(text) > len(known):
        ticket.put(Piece(text[len(known) :]))
        told[ticket] = text
    return True


def _paint(model: Painter, ticket: Ticket) -> None:
    job = cast("PaintJob", ticket.job)
    stream = model.stream(job.prompt, options=job.options)
    ticket.on_cancel = stream.cancel
    if ticket.cancelled.is_set():
        stream.cancel()
    for event in stream:
        ticket.put(event)
    ticket.end(stream.result)
