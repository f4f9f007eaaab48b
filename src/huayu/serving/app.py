"""The application: routes around one engine and one shelf."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fastapi import FastAPI

import huayu
from huayu.serving import chat_routes, errors, glm_route, image_routes, info_routes, metrics, tracing
from huayu.serving.engine import BatchingEngine, Engine
from huayu.serving.guard import guard
from huayu.serving.settings import ServeSettings
from huayu.serving.shelf import Shelf


def create_app(settings: ServeSettings, *, engine: Engine | None = None, shelf: Shelf | None = None) -> FastAPI:
    """Everything that is served. ``engine`` and ``shelf``: those of the caller, who then drains them too.

    ``app.state`` has ``settings``, ``engine`` and ``shelf``.
    """
    shelf = shelf or Shelf(settings)
    own = None if engine else BatchingEngine(shelf, settings.max_queue, settings.max_batch)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if settings.preload:
            await anyio.to_thread.run_sync(shelf.preload)
        yield
        if own is not None:
            await own.drain(settings.drain_seconds)

    app = FastAPI(
        title="huayu",
        version=huayu.__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry=tracing.telemetry(settings),
    )
    app.state.settings, app.state.engine, app.state.shelf = settings, engine or own, shelf
    errors.install(app)
    for routes in (chat_routes, image_routes, glm_route, info_routes):
        app.include_router(routes.router)
    guard(app, settings)
    metrics.install(app, app.state.engine, shelf)
    return app
