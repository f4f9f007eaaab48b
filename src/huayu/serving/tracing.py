"""OpenTelemetry traces, when asked for: extra ``otel``, set up by the usual OTEL_* variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette

from huayu.errors import ModelError
from huayu.serving.settings import ServeSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


def install(app: Starlette, settings: ServeSettings) -> None:
    """A span for each request but ``/health``: method, route and status, no content. Raises ModelError.

    A provider that the program has set stays; else spans go by OTLP over HTTP to OTEL_EXPORTER_OTLP_ENDPOINT.
    """
    if not settings.trace:
        return
    try:
        from opentelemetry import trace
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.sdk.trace import TracerProvider
    except ImportError:
        command = 'pip install "huayu[otel]"'
        raise ModelError(f"Traces need OpenTelemetry: {command}", f"链路追踪需要 OpenTelemetry：{command}") from None
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        trace.set_tracer_provider(_provider())
    app.add_middleware(
        OpenTelemetryMiddleware,  # type: ignore[arg-type]
        excluded_urls="/health",
        exclude_spans=["receive", "send"],
    )


def _provider() -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "huayu"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
