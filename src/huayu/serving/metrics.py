"""What Prometheus reads at ``/metrics``: of this process, or of all workers together."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from huayu.serving.engine import Engine, EngineStats, Ticket
from huayu.serving.shelf import Shelf

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters of one application, in a registry of its own.

    With several workers they lie in the folder PROMETHEUS_MULTIPROC_DIR, and each worker tells the sums of all.
    """

    def __init__(self, engine: Engine, shelf: Shelf) -> None:
        own = self.registry = CollectorRegistry()
        summed: Any = {"registry": own, "multiprocess_mode": "livesum"}
        self.engine, self.shelf = engine, shelf
        self.requests = Counter("huayu_requests", "HTTP requests", ["route", "status"], registry=own)
        self.seconds = Histogram(
            "huayu_request_seconds", "Until the last byte", ["route"], buckets=_SECONDS, registry=own
        )
        self.open = Gauge("huayu_requests_open", "HTTP requests being served", **summed)
        self.first = Histogram(
            "huayu_first_token_seconds", "From queue to first piece", ["model"], buckets=_SECONDS, registry=own
        )
        self.tokens = Counter("huayu_tokens", "Tokens", ["model", "kind"], registry=own)
        self.pictures = Counter("huayu_pictures", "Painted pictures", ["model"], registry=own)
        self.queued = Gauge("huayu_jobs_queued", "Jobs that wait", **summed)
        self.running = Gauge("huayu_jobs_running", "Jobs at work", **summed)
        self.batches = Counter("huayu_batches", "Batches started", registry=own)
        self.rows = Counter("huayu_batch_rows", "Jobs in all batches", registry=own)
        self.loaded = Gauge("huayu_model_loaded", "Workers that have a model in memory", ["model", "kind"], **summed)
        self._counted = EngineStats(0, 0, 0, 0)

    def answered(self, ticket: Ticket) -> None:
        """Count a finished chat job."""
        model, usage = ticket.job.model, ticket.reply.usage
        if ticket.first_s is not None:
            self.first.labels(model).observe(ticket.first_s)
        self.tokens.labels(model, "prompt").inc(usage.prompt_tokens)
        self.tokens.labels(model, "completion").inc(usage.completion_tokens)

    def text(self) -> bytes:
        """The exposition format."""
        self.refresh()
        if not shared():
            return generate_latest(self.registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)
        return generate_latest(together)

    def refresh(self) -> None:
        """Write down what the engine and the shelf say now."""
        before, self._counted = self._counted, self.engine.stats()
        self.queued.set(self._counted.queued)
        self.running.set(self._counted.running)
        self.batches.inc(self._counted.batches - before.batches)
        self.rows.inc(self._counted.rows - before.rows)
        for card in self.shelf.listed():
            self.loaded.labels(card.id, card.kind).set(card.loaded)

    async def keep_fresh(self, every: float = 1.0) -> None:
        """For the other workers, for ever."""
        while True:
            self.refresh()
            await asyncio.sleep(every)


def shared() -> bool:
    """Whether the counters are those of several workers."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


class Counted:
    """Middleware: counts and times every request under its route's template, never under what was asked for."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 0

        async def writing(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.metrics.open.inc()
        try:
            await self.app(scope, receive, writing)
        finally:
            self.metrics.open.dec()
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - begin)


def install(app: FastAPI, engine: Engine, shelf: Shelf) -> None:
    """Add the middleware; the counters are ``app.state.metrics``."""
    app.state.metrics = Metrics(engine, shelf)
    app.add_middleware(Counted, metrics=app.state.metrics)
