"""The same routes on a Ray cluster: replicas for chat and for paint, scaled apart, behind replicas of the application.

``huayu serve --ray`` deploys it; so does ``serve deploy`` with ``import_path: huayu.serving.ray_app:application``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, RayServeException

from huayu.errors import Cancelled, HuayuError
from huayu.runtime import cluster
from huayu.serving.engine import BatchingEngine, Busy, EngineStats, Job, Ticket
from huayu.serving.settings import ServeSettings
from huayu.serving.shelf import Kind, Shelf

NAME = "huayu"
_ACCEPTED = "accepted"
Count = Annotated[int, Field(ge=0)]


class ClusterSettings(BaseSettings):
    """How far it may grow; arguments, else the environment (HUAYU_RAY_CHAT_MAX …), else these defaults.

    ``chat_min`` … ``paint_max``: replicas of a kind. ``front``: replicas of the application itself. ``num_cpus`` and
    ``num_gpus``: what Ray sets aside for a replica with models. ``target``: requests per replica that Ray aims at.
    """

    model_config = SettingsConfigDict(env_prefix="HUAYU_RAY_", frozen=True, extra="forbid")

    chat_min: Count = 1
    chat_max: Annotated[int, Field(ge=1)] = 1
    paint_min: Count = 1
    paint_max: Annotated[int, Field(ge=1)] = 1
    front: Annotated[int, Field(ge=1)] = 1
    num_cpus: Annotated[float, Field(ge=0)] = 1
    num_gpus: Annotated[float, Field(ge=0)] = 0
    target: Annotated[float, Field(gt=0)] = 8


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
        self.drain_seconds = mine.drain_seconds

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

    async def ready(self) -> bool:
        """Opens the first model, so that the first request need not wait."""
        (first, *_) = self.shelf.listed()
        with self.shelf.use(first.id, first.kind):
            return True

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


@serve.ingress()
class Front:
    """The application; its engine asks the replicas."""

    def __init__(self, settings: str, handles: dict[Kind, Any]) -> None:
        self.settings, self.handles = ServeSettings.model_validate_json(settings), handles

    def __serve_build_asgi_app__(self) -> FastAPI:
        from huayu.serving.app import create_app
        from huayu.serving.server import only_by_a_local_name

        shelf = Shelf(self.settings)
        app = create_app(self.settings, engine=RayEngine(self.handles, shelf), shelf=shelf)
        only_by_a_local_name(app, self.settings)
        return app


def application(arguments: dict[str, Any] | None = None) -> Any:
    """A Ray Serve application. ``arguments``: fields of ServeSettings, and ``cluster``: fields of ClusterSettings."""
    given = dict(arguments or {})
    return build(ClusterSettings(**given.pop("cluster", {})), ServeSettings(**given))


def build(size: ClusterSettings, settings: ServeSettings) -> Any:
    """The same of settings. Kinds without a model get no deployment."""
    told = settings.model_dump_json()
    kinds: tuple[Kind, ...] = ("chat", "paint")
    handles = {
        kind: _deployment(size, settings, kind).bind(told, kind)
        for kind in kinds
        if getattr(settings, f"{kind}_models")
    }
    front = serve.deployment(
        name="front",
        num_replicas=size.front,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=4 * settings.max_queue,
        graceful_shutdown_timeout_s=settings.drain_seconds,
    )(Front)
    return front.bind(told, handles)


def _deployment(size: ClusterSettings, settings: ServeSettings, kind: Literal["chat", "paint"]) -> Any:
    return serve.deployment(
        name=kind,
        autoscaling_config={
            "min_replicas": getattr(size, f"{kind}_min"),
            "initial_replicas": max(1, getattr(size, f"{kind}_min")),
            "max_replicas": max(getattr(size, f"{kind}_min"), getattr(size, f"{kind}_max")),
            "target_ongoing_requests": size.target if kind == "chat" else 1,
        },
        ray_actor_options={"num_cpus": size.num_cpus, "num_gpus": size.num_gpus},
        max_ongoing_requests=2 * settings.max_batch,
        max_queued_requests=settings.max_queue,
        health_check_period_s=5,
        health_check_timeout_s=30,
        graceful_shutdown_timeout_s=settings.drain_seconds,
    )(Replica)


def deploy(settings: ServeSettings, size: ClusterSettings) -> None:
    """On the connected cluster; where an older one runs it is replaced replica by replica. Returns when it answers."""
    everywhere = bool(os.environ.get("RAY_ADDRESS"))
    serve.start(
        proxy_location="EveryNode" if everywhere else "HeadOnly",
        http_options={"host": settings.host, "port": settings.port},
    )
    serve.run(build(size, settings), name=NAME, route_prefix="/")


def run(settings: ServeSettings, size: ClusterSettings | None = None) -> int:
    """Deploys, and on a cluster of our own serves until SIGTERM or SIGINT; the exit code.

    On the cluster that RAY_ADDRESS names it stays when this returns. Raises OptionError, ModelError.
    """
    from huayu.serving.server import look_at_the_door

    look_at_the_door(settings)
    size = size or ClusterSettings()
    replicas = max(size.chat_min, size.chat_max) + max(size.paint_min, size.paint_max)
    with cluster.connected(int(replicas * max(1, size.num_cpus)) + 1):
        deploy(settings, size)
        if os.environ.get("RAY_ADDRESS"):
            return 0
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        stop.wait()
        serve.shutdown()
    return 0
