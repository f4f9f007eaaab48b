"""Broken requests by the thousand against the whole application with the models inside: words, never a 500.

``make fuzz`` runs more of them, other ones each time.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import gc
import io
import json
import os
import re
import time
from functools import cache
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from huayu.serving.app import create_app
from huayu.serving.jobs import Ticket
from huayu.serving.settings import ServeSettings
from huayu.serving.shelf import Shelf
from tests.serving.asgi import WAIT_AND_LEAVE, Answer, ask, post

MORE = os.environ.get("HUAYU_FUZZ")
FUZZ = settings(
    max_examples=int(MORE or 1000),
    derandomize=MORE is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
CHAT: dict[str, Any] = {
    "model": "huayu-chat-mini",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    "max_tokens": 1,
    "temperature": 0,
}
PAINT: dict[str, Any] = {"prompt": "an apple", "steps": 1, "n": 1, "size": "auto", "seed": 1}
GLM: dict[str, Any] = {"text": " ", "image": "", "history": []}
TEMPLATES = {"/v1/chat/completions": CHAT, "/v1/images/generations": PAINT, "/": GLM}
ALLOWED = {200, 400, 404, 408, 413, 422, 429, 503}
INSIDE = re.compile(r"Traceback|site-packages|\.py\b|0x[0-9a-f]{6}|object at|/usr/|/home/|<class")


@cache
def app() -> Any:
    """Deadlines short, so that a request for a thousand steps costs a second; the models are loaded before."""
    shelf = Shelf(ServeSettings())
    for path in ("/v1/chat/completions", "/v1/images/generations"):
        assert post(create_app(ServeSettings(), shelf=shelf), path, TEMPLATES[path]).status == 200
    return create_app(ServeSettings(request_timeout_s=1, max_tokens=8, max_n=2), shelf=shelf)


def check(answer: Answer, asked: Any) -> None:
    assert answer.status in ALLOWED, (answer, asked)
    if answer.status != 200:
        message = answer.error["message"]
        shown = json.dumps(asked, ensure_ascii=False) if not isinstance(asked, bytes) else ""
        assert message
        assert not INSIDE.search(message) or INSIDE.search(shown), (message, asked)


any_text = st.text(max_size=30) | st.sampled_from(
    ["", " ", "\0", "\ud800".encode("utf-16", "surrogatepass").hex(), "<s>"]
)
any_number = st.integers() | st.floats() | st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64, 1e308])
any_json = st.recursive(
    st.none() | st.booleans() | any_number | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)
FIELDS = sorted({name for template in TEMPLATES.values() for name in template})
FIELDS += ["stream", "stop", "top_p", "top_k", "response_format", "guidance", "negative_prompt", "scheduler", "tools"]
FIELDS += ["stream_options", "max_length", "max_completion_tokens", "user", "metadata"]
PLACES: list[tuple[Any, ...]] = [(name,) for name in FIELDS]
PLACES += [("messages", 0), ("messages", 0, "role"), ("messages", 0, "content"), ("messages", 0, "content", 0)]
PLACES += [("messages", 0, "content", 0, "text"), ("messages", 0, "content", 0, "type")]
typical = st.sampled_from(
    [
        {"type": "image_url", "image_url": {"url": "http://127.0.0.1/x"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "no such type"}}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}},
        "system",
        "assistant",
        "1x1",
        "99999x99999",
        "\ud83d",
        [],
        {},
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, Any]:
    """A path and a body: a good one with something else in one or two places; any JSON; or no JSON at all."""
    path = draw(st.sampled_from(sorted(TEMPLATES)))
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return path, draw(any_json)
    body = json.loads(json.dumps(TEMPLATES[path]))
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.sampled_from(PLACES if "messages" in body else PLACES[: len(FIELDS)]))
        _put(body, place, copy.deepcopy(draw(any_json | typical)))  # it may be put into itself
    if kind == 1:
        data = json.dumps(body).encode()
        cut, junk = draw(st.integers(0, len(data))), draw(st.binary(max_size=6))
        return path, data[:cut] + junk + data[cut + draw(st.integers(0, 6)) :]
    return path, body


def _put(body: Any, place: tuple[Any, ...], value: Any) -> None:
    *way, last = place
    try:
        for step in way:
            body = body[step]
        body[last] = value
    except (TypeError, LookupError):
        """Something else has gone there before."""


@FUZZ
@given(requests())
@example(("/", b""))
@example(("/v1/chat/completions", b"[" * 100_000))
@example(("/v1/chat/completions", b'{"model": 1e999999, "messages": NaN}'))
@example(("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": "\ud800"}]}))
@example(("/v1/chat/completions", b"\xff\xfe" + json.dumps(CHAT).encode("utf-16-le")))
@example(("/v1/images/generations", {**PAINT, "seed": 10**400}))
@example(("/v1/images/generations", {**PAINT, "size": "0x0"}))
def test_json(request_: tuple[str, Any]) -> None:
    path, body = request_
    check(post(app(), path, body), body)


@cache
def files() -> list[bytes]:
    picture = Image.effect_noise((24, 16), 80).convert("RGB")
    kinds: list[tuple[str, dict[str, Any]]] = [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {})]
    kinds += [("WEBP", {"lossless": True}), ("GIF", {}), ("BMP", {}), ("TIFF", {}), ("ICO", {})]
    made = []
    for kind, options in kinds:
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        made.append(buffer.getvalue())
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 100
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif)
    return [*made, buffer.getvalue()]


@st.composite
def pictures(draw: st.DrawFn) -> bytes:
    """A file with bytes changed, cut, doubled or put in; or none at all."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(draw(st.sampled_from(files())))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, min(len(data) - 1, draw(st.sampled_from([12, 64, 10_000]))))))
        how = draw(st.integers(0, 5))
        if how <= 2:
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif how == 3:
            data[at:at] = draw(st.binary(max_size=8))
        elif how == 4:
            data[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\0\1\0\0"]))
        else:
            del data[at : at + draw(st.integers(1, 400))]
    return bytes(data)


def show(data: bytes, question: str) -> Answer:
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    shown = {"type": "image_url", "image_url": {"url": url}}
    content = [{"type": "text", "text": question}, shown]
    return post(app(), "/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": content}]})


@FUZZ
@given(pictures(), st.integers(0, 49))
def test_pictures(data: bytes, chance: int) -> None:
    """Each is decoded; one in fifty is also looked at (with the others the question is empty, which comes later)."""
    answer = show(data, "What?" if chance == 0 else " ")
    check(answer, data)
    assert answer.status in {400, 408, 413} | ({200} if chance == 0 else set())


def test_the_files_themselves_are_read() -> None:
    assert [show(data, "What?").status for data in files()] == [200] * 6 + [400] * 3 + [200]


def test_nothing_is_kept_of_clients_that_leave() -> None:
    """Within the deadline, that is: its timer must not keep a job, and with it the pictures."""
    lasting = create_app(ServeSettings(request_timeout_s=1000), shelf=app().state.shelf)
    body = json.dumps({**CHAT, "max_tokens": 64, "stream": True}).encode()
    sent = {"content-type": "application/json"}
    known = _tickets() + 1  # an engine's thread remembers what it did last

    async def leave() -> int:
        for when in ({"leave_when_answering": True}, {"pieces": [body, WAIT_AND_LEAVE], "pause": 0.01}):
            for _ in range(3):
                await ask(lasting, "POST", "/v1/chat/completions", headers=sent, **{"pieces": [body], **when})
        end = time.monotonic() + 20
        while (left := _tickets()) > known and time.monotonic() < end:
            await asyncio.sleep(0.1)
        return left

    assert asyncio.run(leave()) <= known


def _tickets() -> int:
    gc.collect()
    return sum(type(thing) is Ticket for thing in gc.get_objects())
