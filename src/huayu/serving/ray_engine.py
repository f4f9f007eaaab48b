"""The engine on a Ray cluster: replicas that have the models, and one Engine that hands jobs to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, RayServeException

from huayu.errors import Cancelled, HuayuError
from huayu.serving.engine import BatchingEngine, Busy, EngineStats, Job, Ticket
from huayu.serving.settings import ServeSettings
from huayu.serving.shelf import Kind, Shelf

_ACCEPTED = "accepted"


class ReplicaLost(Busy):
    """The replica that had the job is gone; another can be asked. HTTP 503."""

    def __init__(self) -> None:
        super().__init__(1, closing=True)
        self.en, self.zh = "The worker of this request has ended; try again.", "处理此请求的进程已退出；请重试。"
        self.args = (self.en,)


class Replica:
    """The models of one kind with their queue. A deployment; its replicas are alike."""

    def __init__(self, settings: str, kind: Kind) -> None:
        """``settings``: JSON of ServeSettings."""
        mine = ServeSettings.model_validate_json(settings)
        others = "paint_models" if kind == "chat" else "chat_models"
        self.shelf = Shelf(mine.model_copy(update={others: ()}))
        self.engine = BatchingEngine(self.shelf, mine.max_queue, mine.max_batch)
        first = self.shelf.default(kind)
        with self.shelf.use(first, kind):
            """It is open: a replica is there when it can answer."""

    async def run(self, job: Job) -> AsyncIterator[Any]:
        """That it is accepted, its events, then (outcome,); or a HuayuError, as data. Leaving early cancels it."""
        try:
            async with await self.engine.submit(job) as ticket:
                yield _ACCEPTED
                async for event in ticket:
                    yield event
                yield (ticket.reply if job.kind == "chat" else ticket.result,)
        except HuayuError as error:
            yield error

    def check_health(self) -> None:
        """Ray replaces a replica whose engine can no longer be asked."""
        self.engine.stats()


class RayEngine:
    """An Engine whose jobs are run by replicas, wherever they are. Belongs to one event loop."""

    def __init__(self, handles: dict[Kind, Any], shelf: Shelf) -> None:
        """``handles``: to the deployments of :class:`Replica`. ``shelf`` only tells which models there are."""
        self._handles, self._shelf = {kind: handle.run.options(stream=True) for kind, handle in handles.items()}, shelf
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking = self._rows = 0
        self._closing = False

    async def submit(self, job: Job) -> Ticket:
        """See :class:`huayu.serving.engine.Engine`; when a replica dies before it accepts, another is asked."""
        self._shelf.require(job.model, job.kind)
        if self._closing:
            raise Busy(1, closing=True)
        self._asking += 1
        try:
            events = await self._accepted(job)
        finally:
            self._asking -= 1
        ticket = Ticket(job)
        task = asyncio.get_running_loop().create_task(_hand_on(events, ticket))

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                events.cancel()
                ticket.end(error=Cancelled())

        self._tasks.add(task)
        self._rows += 1
        task.add_done_callback(ended)
        ticket.on_cancel = lambda: _cancel(task)
        return ticket

    async def _accepted(self, job: Job, tries: int = 3) -> Any:
        events = self._handles[job.kind].remote(job)
        try:
            first = await anext(events)
        except BackPressureError:
            raise Busy(1) from None
        except (RayError, RayServeException) as problem:
            if tries > 1:
                return await self._accepted(job, tries - 1)
            raise ReplicaLost from problem
        if isinstance(first, HuayuError):
            raise first
        return events

    async def drain(self, seconds: float) -> None:
        """See :class:`huayu.serving.engine.Engine`."""
        self._closing = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in tuple(self._tasks):
            task.cancel()

    def stats(self) -> EngineStats:
        """Of the jobs that came through here."""
        return EngineStats(self._asking, len(self._tasks), self._rows, self._rows)


async def _hand_on(events: Any, ticket: Ticket) -> None:
    """From the replica to the ticket."""
    try:
        async for event in events:
            if isinstance(event, HuayuError):
                ticket.end(error=event)
            elif isinstance(event, tuple):
                ticket.end(event[0])
            else:
                ticket.put(event)
    except Exception as problem:  # whatever Ray calls it: cancelled, or the replica is not there any more
        ticket.end(error=Cancelled() if ticket.cancelled.is_set() else _lost(problem))


def _cancel(task: asyncio.Task[None]) -> None:
    """From any thread."""
    task.get_loop().call_soon_threadsafe(task.cancel)


def _lost(problem: Exception) -> ReplicaLost:
    error = ReplicaLost()
    error.__cause__ = problem
    return error
