"""The one queue: jobs in, tickets out. Behind it, chat jobs that can share a batch do. No torch at import."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from huayu.chat.conversation import Conversation, Picture
from huayu.chat.options import ChatOptions
from huayu.errors import Cancelled, HuayuError
from huayu.paint.options import PaintOptions

if TYPE_CHECKING:
    from huayu.chat import ChatModel, ChatReply
    from huayu.paint import Painter, PaintResult
    from huayu.serving.shelf import Kind, Shelf


class Busy(HuayuError):
    """The queue is full, or closing; ``retry_after_s``: when to try again."""

    def __init__(self, retry_after_s: int, *, closing: bool = False) -> None:
        why_en, why_zh = ("is closing", "正在关闭") if closing else ("has too many requests waiting", "排队请求过多")
        super().__init__(
            f"The server {why_en}; try again in {retry_after_s} s.", f"服务{why_zh}；请在 {retry_after_s} 秒后重试。"
        )
        self.retry_after_s, self.closing = retry_after_s, closing


class DeadlineExceeded(HuayuError):
    """A job took longer than it was given."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The request was not finished after {seconds:g} s.", f"请求在 {seconds:g} 秒内未能完成。")


@dataclass(frozen=True)
class Piece:
    """More of an answer."""

    text: str


@dataclass(frozen=True)
class ChatJob:
    """A question to ``model`` after a ``conversation``; ``pictures`` are shown now. ``timeout_s`` None: no deadline."""

    model: str
    question: str
    pictures: tuple[Picture, ...] = ()
    conversation: Conversation | None = None
    options: ChatOptions = field(default_factory=ChatOptions)
    timeout_s: float | None = None

    @property
    def kind(self) -> Kind:
        return "chat"

    @property
    def batch(self) -> Any:
        """Jobs whose batches are equal can be answered together; None: alone, since a batch would draw otherwise."""
        drawn = self.options.search not in ("beam", "greedy") and self.options.temperature != 0
        if drawn and self.options.seed is not None:
            return None
        shown = self.pictures or (self.conversation is not None and self.conversation.pictures)
        return self.options, bool(shown)


@dataclass(frozen=True)
class PaintJob:
    """Pictures of a prompt by ``model``."""

    model: str
    prompt: str
    options: PaintOptions = field(default_factory=PaintOptions)
    timeout_s: float | None = None

    @property
    def kind(self) -> Kind:
        return "paint"

    @property
    def batch(self) -> Any:
        """Always alone: a painter makes batches of a job's own pictures."""
        return None


Job = ChatJob | PaintJob
_MOMENT = 0.004


@dataclass(frozen=True)
class EngineStats:
    """``queued`` and ``running`` jobs now; ``batches`` started so far and the ``rows`` in them."""

    queued: int
    running: int
    batches: int
    rows: int


class Ticket:
    """A job on its way: an asynchronous iterator of :class:`Piece`, or of ``Progress`` and ``Painted``.

    After the last event ``reply`` (chat) or ``result`` (paint) is there. What went wrong with the job is raised by the
    iterator: DeadlineExceeded, too. ``cancel`` may be called from any thread and more than once; the events end, and
    what came is in the reply. Leaving ``async with ticket`` cancels what is not finished. Belongs to the event loop in
    which it was made.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.created = time.monotonic()
        self.first_s: float | None = None  # until the first event
        self.cancelled = threading.Event()
        self.on_cancel: Callable[[], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._outcome: Any = None
        self._ended = False
        self._timer = None if job.timeout_s is None else self._loop.call_later(job.timeout_s, self._expire)

    def __aiter__(self) -> Ticket:
        return self

    async def __anext__(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        event = await self._events.get()
        if self.first_s is None:
            self.first_s = time.monotonic() - self.created
        if not isinstance(event, _End):
            return event
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        if event.error is not None:
            raise event.error
        self._outcome = event.outcome
        raise StopAsyncIteration

    async def __aenter__(self) -> Ticket:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel; nothing more is taken."""
        if self._timer is not None:
            self._timer.cancel()
        self.cancel()

    async def finished(self) -> Any:
        """Take all events; the reply or the result. Raises what the iterator does."""
        async for _ in self:
            """All events."""
        return self._outcome

    @property
    def reply(self) -> ChatReply:
        """Of a chat job, after the last event."""
        return cast("ChatReply", self._whole())

    @property
    def result(self) -> PaintResult:
        """Of a paint job, after the last event."""
        return cast("PaintResult", self._whole())

    def _whole(self) -> Any:
        if self._outcome is None:
            raise RuntimeError("the job is not finished: take all events first")
        return self._outcome

    def cancel(self) -> None:
        """Stop the job wherever it is."""
        self.cancelled.set()
        if self.on_cancel is not None:
            self.on_cancel()

    def put(self, event: Any) -> None:
        """From the engine's thread: hand on an event."""
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the loop is closed: nobody listens any more
            self.cancel()

    def end(self, outcome: Any = None, error: BaseException | None = None) -> None:
        """From the engine's thread: the last event."""
        self.put(_End(outcome, error))

    def _expire(self) -> None:
        self._events.put_nowait(_End(None, DeadlineExceeded(self.job.timeout_s or 0)))
        self.cancel()


@dataclass(frozen=True)
class _End:
    outcome: Any
    error: BaseException | None


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
    """Answer a batch; a job that is refused, cancelled or finished leaves the others as they are."""
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
        return
    run = model.start(rows, options)
    for index, ticket in enumerate(asked):
        ticket.on_cancel = lambda row=index: run.cancel_row(row)
        if ticket.cancelled.is_set():
            run.cancel_row(index)
    open_rows = set(range(len(asked)))
    for row, text in run:
        asked[row].put(Piece(text))
        for index in [i for i in open_rows if run.reply(i) is not None]:
            open_rows.discard(index)
            asked[index].end(run.reply(index))
    for index in open_rows:
        asked[index].end(run.reply(index))


def _paint(model: Painter, ticket: Ticket) -> None:
    job = cast("PaintJob", ticket.job)
    stream = model.stream(job.prompt, options=job.options)
    ticket.on_cancel = stream.cancel
    if ticket.cancelled.is_set():
        stream.cancel()
    for event in stream:
        ticket.put(event)
    ticket.end(stream.result)
