"""The same routes on a Ray cluster: replicas for chat and for paint, scaled apart, behind replicas of the application.

``huayu serve --ray`` deploys it; so does ``serve deploy`` with ``import_path: huayu.serving.ray_app:application``.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from ray import serve

from huayu.runtime import cluster
from huayu.serving.ray_engine import RayEngine, Replica
from huayu.serving.settings import ServeSettings
from huayu.serving.shelf import Kind, Shelf

NAME = "huayu"
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


@serve.ingress()
class Front:
    """The application; its engine asks the replicas."""

    def __init__(self, settings: str, handles: dict[Kind, Any]) -> None:
        told = ServeSettings.model_validate_json(settings)
        self.settings, self.handles = told.model_copy(update={"preload": False}), handles

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
