"""What Prometheus reads at ``/metrics``: of this process; with several workers each answers for itself."""

from __future__ import annotations

import time
from collections.abc import Iterator

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from huayu.serving.engine import Engine, Ticket
from huayu.serving.shelf import Shelf

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters of one application, in a registry of its own."""

    def __init__(self, engine: Engine, shelf: Shelf) -> None:
        own = self.registry = CollectorRegistry()
        self.requests = Counter("huayu_requests", "HTTP requests", ["route", "status"], registry=own)
        self.seconds = Histogram(
            "huayu_request_seconds", "Until the last byte", ["route"], buckets=_SECONDS, registry=own
        )
        self.open = Gauge("huayu_requests_open", "HTTP requests being served", registry=own)
        self.first = Histogram(
            "huayu_first_token_seconds", "From queue to first piece", ["model"], buckets=_SECONDS, registry=own
        )
        self.tokens = Counter("huayu_tokens", "Tokens", ["model", "kind"], registry=own)
        self.pictures = Counter("huayu_pictures", "Painted pictures", ["model"], registry=own)
        own.register(_State(engine, shelf))

    def answered(self, ticket: Ticket) -> None:
        """Count a finished chat job."""
        model, usage = ticket.job.model, ticket.reply.usage
        if ticket.first_s is not None:
            self.first.labels(model).observe(ticket.first_s)
        self.tokens.labels(model, "prompt").inc(usage.prompt_tokens)
        self.tokens.labels(model, "completion").inc(usage.completion_tokens)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


class _State(Collector):
    """What the engine and the shelf say when they are asked."""

    def __init__(self, engine: Engine, shelf: Shelf) -> None:
        self.engine, self.shelf = engine, shelf

    def collect(self) -> Iterator[Metric]:
        stats = self.engine.stats()
        yield GaugeMetricFamily("huayu_jobs_queued", "Jobs that wait", stats.queued)
        yield GaugeMetricFamily("huayu_jobs_running", "Jobs at work", stats.running)
        yield CounterMetricFamily("huayu_batches", "Batches started", stats.batches)
        yield CounterMetricFamily("huayu_batch_rows", "Jobs in all batches", stats.rows)
        loaded = GaugeMetricFamily("huayu_model_loaded", "1 while a model is in memory", labels=["model", "kind"])
        for card in self.shelf.listed():
            loaded.add_metric([card.id, card.kind], float(card.loaded))
        yield loaded


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
