"""OpenTelemetry traces, when asked for: FastAPI's own spans, set up by the usual OTEL_* variables. Extra ``otel``."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from fastapi.telemetry import TelemetryConfig

from huayu.errors import ModelError
from huayu.serving.settings import ServeSettings


def telemetry(settings: ServeSettings) -> TelemetryConfig:
    """For ``FastAPI(telemetry=…)``: one span a request but for ``/health``, with route and status and no content.

    A provider that the program has set is used, and OTLP over HTTP when OTEL_EXPORTER_OTLP_ENDPOINT is there.
    Exceptions and the spans of single steps stay out: what they say may be a user's words. Raises ModelError.
    """
    if settings.trace:
        try:
            import opentelemetry.exporter.otlp.proto.http
            import opentelemetry.sdk.trace  # noqa: F401
        except ImportError:
            command = 'pip install "huayu[otel]"'
            raise ModelError(
                f"Traces need OpenTelemetry: {command}", f"链路追踪需要 OpenTelemetry：{command}"
            ) from None
    return {
        "tracing": settings.trace,
        "auto_configure": settings.trace,
        "metrics": False,  # /metrics has them
        "logs": False,
        "operation_spans": False,
        "exclude": _is_health,
    }


def _is_health(scope: MutableMapping[str, Any]) -> bool:
    return bool(scope["path"] == "/health")
