"""Caps of bytes, memory, pixels, time; slow clients; closing time. Routes that only wait stand in for models."""

from __future__ import annotations

import asyncio
import io
import struct
import time
import zlib
from typing import Any

import anyio
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from PIL import Image

from huayu.errors import ImageError, PictureTooLarge
from huayu.serving import errors
from huayu.serving.app import create_app
from huayu.serving.guard import guard
from huayu.serving.limits import check, open_picture
from huayu.serving.refusals import Refusal
from huayu.serving.settings import ServeSettings
from tests.serving.asgi import LEAVE, WAIT_AND_LEAVE, Answer, ask, get, post

SMALL = ServeSettings(max_body_bytes=1000, max_inflight_bytes=3000, request_timeout_s=0.5)


def waiting_app(settings: ServeSettings) -> FastAPI:
    """Behind the real guard: routes that note how they end."""
    app = FastAPI()
    errors.install(app)
    app.state.ended = []

    async def wait(request: Request, seconds: float) -> dict[str, int]:
        size = len(await request.body())
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            app.state.ended.append("cancelled")
            raise
        app.state.ended.append("done")
        return {"size": size}

    async def stream(request: Request) -> StreamingResponse:
        await request.body()

        async def pieces() -> Any:
            try:
                while True:
                    yield b"piece\n"
                    await asyncio.sleep(0.05)
            finally:
                app.state.ended.append("closed")

        return StreamingResponse(pieces())

    app.post("/wait")(wait)
    app.post("/stream")(stream)
    app.post("/typed")(lambda body: body)
    guard(app, settings)
    return app


@pytest.fixture
def app() -> FastAPI:
    return waiting_app(SMALL)


def wait_for(app: FastAPI, seconds: float = 0, **how: Any) -> Any:
    return ask(app, "POST", f"/wait?seconds={seconds}", **how)


@pytest.mark.parametrize("real", [False, True])
def test_a_body_over_the_cap_is_refused_by_its_length_before_a_byte_is_read(real: bool, app: FastAPI) -> None:
    asked = create_app(SMALL) if real else app
    answer = asyncio.run(ask(asked, "POST", "/wait", pieces=[b""], headers={"content-length": "1001"}))
    assert (answer.status, answer.error["code"], answer.headers["connection"]) == (413, "body_too_large", "close")


@pytest.mark.parametrize("path", ["/wait?seconds=0", "/typed?body=1"])
def test_a_body_without_a_length_is_refused_while_it_is_read(path: str, app: FastAPI) -> None:
    taken = []

    def pieces() -> Any:
        for number in range(10):
            taken.append(number)
            yield b"x" * 300

    answer = asyncio.run(ask(app, "POST", path, pieces=pieces()))
    if path.startswith("/wait"):
        assert (answer.status, answer.error["code"]) == (413, "body_too_large")
        assert app.state.ended == []
    assert app.state.gate.held == app.state.gate.running == 0


def test_a_body_at_the_cap_is_fine(app: FastAPI) -> None:
    answer = asyncio.run(wait_for(app, pieces=[b"x" * 500] * 2))
    assert answer.json() == {"size": 1000}


def test_all_requests_together_hold_no_more_than_the_cap(app: FastAPI) -> None:
    async def six() -> list[Answer]:
        return await asyncio.gather(*(wait_for(app, 0.1, pieces=[b"x" * 900]) for _ in range(6)))

    answers = asyncio.run(six())
    assert [answer.status for answer in answers] == [200] * 3 + [429] * 3
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert answers[-1].error["code"] == "memory_full"
    assert app.state.gate.held == app.state.gate.running == 0


def test_the_deadline_ends_work_and_slow_bodies_alike(app: FastAPI) -> None:
    begin = time.monotonic()
    answer = asyncio.run(wait_for(app, 30))
    assert (answer.status, answer.error["code"]) == (408, "deadline_exceeded")
    assert app.state.ended == ["cancelled"]
    drip = asyncio.run(wait_for(app, pieces=[b"x"] * 1000, pause=0.1))
    assert drip.status == 408
    assert time.monotonic() - begin < 20


def test_a_stream_that_never_ends_is_cut_at_the_deadline(app: FastAPI) -> None:
    answer = asyncio.run(ask(app, "POST", "/stream"))
    assert answer.status == 200
    assert not answer.complete
    assert b"piece" in answer.body
    assert app.state.ended == ["closed"]


@pytest.mark.parametrize("path", ["/wait?seconds=30", "/stream"])
def test_when_the_client_leaves_the_work_stops(path: str) -> None:
    app = waiting_app(ServeSettings())
    begin = time.monotonic()
    asyncio.run(ask(app, "POST", path, pieces=[b"", WAIT_AND_LEAVE], pause=0.1))
    assert time.monotonic() - begin < 5
    assert app.state.ended in (["cancelled"], ["closed"])
    assert app.state.gate.running == 0


def test_a_client_that_leaves_within_its_body_leaves_nothing_behind(app: FastAPI) -> None:
    asyncio.run(wait_for(app, pieces=[b"x" * 900, LEAVE]))
    assert app.state.ended == []
    assert app.state.gate.held == app.state.gate.running == 0


def test_when_closing_what_runs_goes_on_and_what_comes_is_sent_away(app: FastAPI) -> None:
    async def both() -> list[Answer]:
        running = asyncio.ensure_future(wait_for(app, 0.2))
        await asyncio.sleep(0.05)
        app.state.gate.closing = True
        return [await wait_for(app), await running]

    late, early = asyncio.run(both())
    assert (late.status, late.error["code"], "retry-after" in late.headers) == (503, "closing", True)
    assert early.status == 200
    assert get(app, "/health").status == 503  # whoever shares out the load looks here


def test_what_is_not_done_by_then_is_told_so(app: FastAPI) -> None:
    async def cut() -> Answer:
        running = asyncio.ensure_future(wait_for(app, 30))
        await asyncio.sleep(0.05)
        app.state.gate.cut()
        return await running

    answer = asyncio.run(cut())
    assert (answer.status, answer.error["code"]) == (503, "closing")
    assert app.state.ended == ["cancelled"]


def test_pages_of_other_sites_cannot_make_a_browser_ask() -> None:
    app = waiting_app(ServeSettings(cors_origins=("https://friend.example",)))
    for origin, site, status in (
        ("http://localhost", None, 200),
        ("https://evil.example", None, 403),
        ("null", None, 403),
        ("https://evil.example", "cross-site", 403),
        ("http://localhost", "same-origin", 200),
        ("http://localhost:9", "same-site", 403),
        ("https://friend.example", "cross-site", 200),
    ):
        headers = {"origin": origin, **({"sec-fetch-site": site} if site else {})}
        assert asyncio.run(wait_for(app, headers=headers)).status == status, headers


def test_caps_on_numbers_name_the_cap_and_the_field() -> None:
    settings = ServeSettings(max_pictures=2, max_tokens=10, max_n=3)
    check(settings, pictures=2, tokens=10, n=3)
    for asked, param in (({"pictures": 3}, "messages"), ({"tokens": 11}, "max_tokens"), ({"n": 4}, "n")):
        with pytest.raises(Refusal) as caught:
            check(settings, **asked)
        assert (caught.value.status, caught.value.param) == (400, param)
        assert str(max(settings.max_n, *asked.values()) - 1) in caught.value.en


def file(kind: str, size: tuple[int, int] = (6, 4), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, kind, **options)
    return buffer.getvalue()


def opened(data: bytes, **settings: Any) -> Image.Image:
    return asyncio.run(open_picture(data, ServeSettings(**settings)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_four_kinds_of_pictures_are_read(kind: str) -> None:
    assert opened(file(kind)).size == (6, 4)


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "ICO", "PPM", "TGA", "PDF", "EPS", "JPEG2000", "AVIF"])
def test_no_other_kind_is(kind: str) -> None:
    with pytest.raises(ImageError, match="accepted: PNG, JPEG, WebP, GIF"):
        opened(file(kind))


def test_of_an_animation_the_first_frame_is_read() -> None:
    frames = [Image.new("RGB", (6, 4), color) for color in ("red", "blue", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        red, _, blue = opened(buffer.getvalue()).getpixel((1, 1))
        assert red > 200 > 50 > blue


def bomb(width: int, height: int) -> bytes:
    """A PNG whose head promises much."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 10000)) + chunk(b"IEND", b"")


def test_too_many_pixels_are_refused_before_decoding() -> None:
    begin = time.monotonic()
    for width, height in ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (1, 2**30)):
        with pytest.raises(ImageError):
            opened(bomb(width, height))
    with pytest.raises(PictureTooLarge):
        opened(file("PNG", (40, 30)), max_pixels=1199)
    assert opened(file("PNG", (40, 30)), max_pixels=1200).size == (40, 30)
    assert time.monotonic() - begin < 2


def test_pixels_count_against_what_all_requests_hold() -> None:
    app = FastAPI()
    errors.install(app)
    settings = ServeSettings(max_inflight_bytes=3 * 100 * 100 + 5000)

    async def look(request: Request) -> list[int]:
        image = await open_picture(await request.body(), settings)
        await anyio.sleep(0.1)
        return list(image.size)

    app.post("/look")(look)
    guard(app, settings)

    async def two() -> list[Answer]:
        data = file("PNG", (100, 100))
        return await asyncio.gather(*(ask(app, "POST", "/look", pieces=[data]) for _ in range(2)))

    assert sorted(answer.status or 0 for answer in asyncio.run(two())) == [200, 429]
    assert post(app, "/look", file("PNG", (100, 100))).json() == [100, 100]  # and is given back


def test_what_a_decoder_says_stays_inside() -> None:
    for data in (file("PNG", (60, 40))[:60], file("JPEG")[:200], file("GIF")[:20], bomb(100, 100), b"RIFF\0\0\0\0WEBP"):
        with pytest.raises(ImageError) as caught:
            opened(data)
        assert str(caught.value) == "The picture is damaged or cut short."
