"""What is written down of a request: one line, without what was said unless asked for; and traces."""

from __future__ import annotations

import io
import json
import logging
import logging.config
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from huayu.serving import errors, logs
from huayu.serving.app import create_app
from huayu.serving.guard import guard
from huayu.serving.settings import ServeSettings
from tests.serving.asgi import get, post

SECRET = "rosebud-玫瑰"


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """The log as a server writes it, line by line (filled when looked at)."""
    yield from _captured(ServeSettings())


@pytest.fixture
def talkative_lines() -> Iterator[list[dict[str, Any]]]:
    yield from _captured(ServeSettings(log_content=True))


class _Lines(list[dict[str, Any]]):
    def __init__(self, text: io.StringIO) -> None:
        super().__init__()
        self.text = text

    def read(self) -> list[dict[str, Any]]:
        self[:] = map(json.loads, self.text.getvalue().splitlines())
        return self


def _captured(settings: ServeSettings) -> Iterator[_Lines]:
    names = ("huayu", "uvicorn")
    before = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).propagate) for name in names}
    root = logging.getLogger().handlers[:]
    text = io.StringIO()
    wanted = logs.configuration(settings)
    wanted["handlers"]["stderr"]["stream"] = text
    del wanted["root"]
    logging.config.dictConfig(wanted)
    yield _Lines(text)
    for name, (handlers, propagate) in before.items():
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(logging.NOTSET)
    logging.getLogger().handlers[:] = root


def failing_app(settings: ServeSettings) -> FastAPI:
    app = FastAPI()
    errors.install(app)

    def fail(body: dict[str, Any]) -> None:
        raise KeyError(body["text"])

    def missing(body: dict[str, Any]) -> None:
        raise FileNotFoundError("/models/weights")

    app.post("/fail")(fail)
    app.post("/missing")(missing)
    guard(app, settings)
    return app


def test_one_line_for_a_request_with_the_id_of_the_answer(lines: _Lines) -> None:
    answer = get(create_app(ServeSettings()), "/version?q=" + SECRET)
    (line,) = lines.read()
    assert line["request_id"] == answer.headers["x-request-id"]
    assert (line["event"], line["method"], line["route"], line["status"]) == ("request", "GET", "/version", 200)
    assert line["bytes_out"] == len(answer.body)
    assert line["seconds"] >= 0


def test_being_well_is_not_news(lines: _Lines) -> None:
    assert get(create_app(ServeSettings()), "/health").status == 200
    assert lines.read() == []


def test_what_users_say_is_not_written_down(lines: _Lines) -> None:
    app = create_app(ServeSettings(api_keys=("key-" + "x" * 20,)))
    bodies: list[Any] = [{"text": SECRET}, SECRET, SECRET.encode(), {"model": SECRET, "messages": [{"role": SECRET}]}]
    bodies += [{"model": "huayu-chat-mini", "messages": [{"role": "user", "content": SECRET}], "max_tokens": SECRET}]
    for body in bodies:
        for path in ("/", "/v1/chat/completions", "/v1/images/generations", f"/{SECRET}?{SECRET}"):
            for key in ("key-" + "x" * 20, SECRET.encode().decode("latin-1")):
                post(app, path, body, authorization=f"Bearer {key}")
    failing = failing_app(ServeSettings())
    assert post(failing, "/fail", {"text": SECRET}).error["message"] == "The server failed."
    written = lines.read()
    assert len(written) > 40
    said = json.dumps(written, ensure_ascii=False)
    assert "rosebud" not in said
    assert "玫瑰" not in said
    assert "x" * 20 not in said


def test_a_fault_of_ours_is_generic_outside_and_told_in_the_log(lines: _Lines) -> None:
    app = failing_app(ServeSettings())
    answer = post(app, "/missing", {}, accept_language="zh")
    assert (answer.status, answer.error["message"]) == (500, "服务内部出错。")
    fault, request = lines.read()
    assert request["status"] == 500
    assert fault["request_id"] == request["request_id"]
    assert fault["error"]["kind"] == "FileNotFoundError"
    assert fault["error"]["message"] == "/models/weights"
    assert any("test_logs.py" in place for place in fault["error"]["at"])


def test_content_is_there_when_asked_for(talkative_lines: _Lines) -> None:
    post(failing_app(ServeSettings(log_content=True)), "/fail", {"text": SECRET})
    fault, line = talkative_lines.read()
    assert SECRET in fault["error"]["message"]
    assert SECRET in json.loads(line["asked"])["text"]
    assert "error" in json.loads(line["answered"])


def test_a_span_for_each_request_but_health() -> None:
    from opentelemetry import trace

    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    app = create_app(ServeSettings(trace=True))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    get(app, "/version", traceparent=parent)
    get(app, "/health")
    get(create_app(ServeSettings()), "/version")  # nobody asked for its traces
    (span,) = spans.get_finished_spans()
    assert format(span.context.trace_id, "032x") == "0af7651916cd43dd8448eb211c80319c"
    assert 200 in (span.attributes or {}).values()
