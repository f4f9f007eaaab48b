"""What an engine takes and gives: jobs, and tickets for them. No torch at import."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from huayu.chat.conversation import Conversation, Picture
from huayu.chat.options import ChatOptions
from huayu.errors import HuayuError
from huayu.paint.options import PaintOptions

if TYPE_CHECKING:
    from huayu.chat import ChatReply
    from huayu.paint import PaintResult
    from huayu.serving.shelf import Kind


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
        if self._timer is not None:  # or it would keep the job and its pictures until the deadline
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._timer.cancel)
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
