"""One real server with two workers, on loopback: slow clients, twice the load it can take, a killed worker, SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil
import pytest

from huayu.errors import OptionError
from huayu.serving.server import HEADER_SECONDS, serve, tidy
from huayu.serving.settings import ServeSettings
from huayu.serving.shelf import Shelf

KEY = {"Authorization": "Bearer test-key"}
QUEUE, BATCH, WORKERS = 4, 2, 2
PATIENCE = 300  # seconds for starts on a machine that does much else
CHAT = {
    "model": "huayu-chat-mini",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 8,
    "temperature": 0,
}

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    port: int
    log: Path
    slow: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def workers(self) -> list[int]:
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
                if "spawn_main" in " ".join(child.cmdline()):
                    found.append(child.pid)
        return sorted(found)

    def client(self, **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers=KEY, timeout=120, trust_env=False, **options)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    log = tmp_path_factory.mktemp("server") / "log"
    port = free_port()
    command = (
        f"serve --port {port} --workers {WORKERS} --max-queue {QUEUE} --max-batch {BATCH} --preload --drain {PATIENCE}"
    )
    source = str(Path(__file__).parents[2] / "src")
    env = {**os.environ, "HUAYU_API_KEYS": "test-key", "PYTHONPATH": source, "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "huayu", *command.split()], env=env, stderr=file, stdout=file)
    running = Running(process, port, log)
    try:
        ready(running, WORKERS)
        yield running
    finally:
        for connection in running.slow:
            connection.close()
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
        process.wait(10)


def ready(server: Running, starts: int) -> None:
    """Until workers have started so many times."""
    end = time.monotonic() + PATIENCE
    while server.log.read_bytes().count(b"Application startup complete") < starts:
        assert server.process.poll() is None, server.log.read_text()
        assert time.monotonic() < end, server.log.read_text()
        time.sleep(0.1)


def test_slow_heads_and_bodies_do_not_keep_others_waiting(server: Running) -> None:
    body = b"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-key\r\nContent-Length: 900\r\n\r\n{"
    for number in range(20):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(b"POST / HTTP/1.1\r\nHost:" if number % 2 else body)
        server.slow.append(connection)  # looked at again below, when they must have been given up

    async def ask() -> httpx.Response:
        async with server.client() as client:
            return await client.post("/v1/chat/completions", json=CHAT)

    assert asyncio.run(ask()).status_code == 200


def test_twice_the_load_is_answered_in_time_or_sent_away(server: Running) -> None:
    """Twice as many clients as there are places, each asking again and again."""
    places = WORKERS * (QUEUE + BATCH)
    seen: list[tuple[int, float, httpx.Headers]] = []

    async def overload(seconds: float) -> None:
        end = time.monotonic() + seconds

        async def one(client: httpx.AsyncClient) -> None:
            while time.monotonic() < end:
                begin = time.monotonic()
                answer = await client.post("/v1/chat/completions", json=CHAT)
                seen.append((answer.status_code, time.monotonic() - begin, answer.headers))
                await asyncio.sleep(0.1 if answer.status_code == 429 else 0)

        async with server.client(limits=httpx.Limits(max_connections=200)) as client:
            await asyncio.gather(*(one(client) for _ in range(2 * places)))

    begin = time.monotonic()
    asyncio.run(overload(4))
    took = time.monotonic() - begin
    assert {status for status, *_ in seen} == {200, 429}, Counter(status for status, *_ in seen)
    accepted = sorted(seconds for status, seconds, _ in seen if status == 200)
    assert all(int(headers["retry-after"]) >= 1 for status, _, headers in seen if status == 429)
    # Nobody waits for more than the places before him, whatever is asked in all; a worker may have less than its share.
    p99 = accepted[math.ceil(0.99 * len(accepted)) - 1]
    print(f"{len(accepted) / took:.1f}/s answered of {len(seen) / took:.1f}/s asked, p99 {p99:.2f} s")
    assert p99 < 3 * WORKERS * places * took / len(accepted) + 1


def test_metrics_are_of_all_workers(server: Running) -> None:
    def told() -> dict[str, float]:
        """From whichever worker, which must not matter."""
        with httpx.Client(base_url=server.url, headers=KEY, trust_env=False) as client:
            lines = client.get("/metrics").text.splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines) if "#" not in name}

    asked = 'huayu_requests_total{route="/version",status="200"}'
    before = told().get(asked, 0)
    for _ in range(12):  # a new connection each, so that both workers get some
        assert httpx.get(f"{server.url}/version", headers=KEY, trust_env=False).status_code == 200
    for _ in range(6):
        now = told()
        assert now[asked] == before + 12
        assert now['huayu_model_loaded{kind="chat",model="huayu-chat-mini"}'] == WORKERS
        assert now["huayu_requests_open"] >= 1


def test_a_killed_worker_costs_its_requests_and_comes_back(server: Running) -> None:
    before = server.workers()
    assert len(before) == WORKERS

    async def under_load() -> Counter[str]:
        seen: Counter[str] = Counter()
        end = time.monotonic() + 4

        async def one() -> None:
            while time.monotonic() < end:
                async with server.client() as client:
                    try:
                        seen[str((await client.post("/v1/chat/completions", json=CHAT)).status_code)] += 1
                    except httpx.TransportError:
                        seen["broken"] += 1

        async def kill() -> None:
            await asyncio.sleep(1)
            os.kill(before[0], signal.SIGKILL)

        await asyncio.gather(kill(), *(one() for _ in range(6)))
        return seen

    seen = asyncio.run(under_load())
    assert set(seen) <= {"200", "429", "broken"}
    assert seen["200"] > 0  # the other one went on
    ready(server, WORKERS + 1)
    after = server.workers()
    assert len(after) == WORKERS
    assert before[0] not in after
    assert before[1] in after
    metrics = httpx.get(f"{server.url}/metrics", headers=KEY, trust_env=False).text
    assert f'huayu_model_loaded{{kind="chat",model="huayu-chat-mini"}} {WORKERS:.1f}' in metrics  # the dead one is out


def test_slow_clients_have_been_given_up(server: Running) -> None:
    for connection in server.slow[1::2]:
        connection.settimeout(HEADER_SECONDS + 20)
        with_answer = b""
        try:
            while block := connection.recv(1000):
                with_answer += block
        except ConnectionResetError:
            """Its worker was killed."""
            continue
        assert not with_answer or with_answer.startswith(b"HTTP/1.1 408")


def test_sigterm_lets_answers_finish_and_sends_new_ones_away(server: Running) -> None:
    for connection in server.slow:
        connection.close()

    async def drained() -> tuple[list[httpx.Response], httpx.Response]:
        async with server.client(limits=httpx.Limits(max_keepalive_connections=0)) as client:
            painting = {"prompt": "an apple", "steps": 20, "seed": 1}
            begin = time.monotonic()
            await client.post("/v1/images/generations", json=painting)
            painting["steps"] = min(1000, int(20 * 6 / (time.monotonic() - begin)))  # some six seconds
            running = asyncio.create_task(client.post("/v1/images/generations", json=painting))
            await asyncio.sleep(1)
            assert not running.done()
            server.process.send_signal(signal.SIGTERM)
            late: list[httpx.Response] = []
            while len(late) < 3:  # from the first that is sent away
                answer = await client.post("/v1/chat/completions", json=CHAT)
                late += [answer] if late or answer.status_code != 200 else []
            return late, await running

    late, early = asyncio.run(drained())
    assert early.status_code == 200
    assert early.json()["data"][0]["b64_json"]
    assert [answer.status_code for answer in late] == [503] * 3
    assert all("retry-after" in answer.headers for answer in late)
    assert server.process.wait(PATIENCE) == 0
    assert b"Traceback" not in server.log.read_bytes()


def test_without_a_key_it_stays_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OptionError) as caught:
        serve(ServeSettings(host="0.0.0.0"))
    assert "HUAYU_API_KEYS" in caught.value.en
    assert "HUAYU_API_KEYS" in caught.value.zh


def test_old_cycles_are_found_soon() -> None:
    class Cycle:
        """Refers to itself, as a request with its callbacks does."""

        def __init__(self) -> None:
            self.own = self

    async def tidied() -> bool:
        task = asyncio.create_task(tidy(Shelf(ServeSettings()), every=0.05))
        await asyncio.sleep(0)
        gone = weakref.ref(Cycle())
        aside = gc.get_freeze_count()
        await asyncio.sleep(0.5)
        task.cancel()
        return aside > 10_000 and gone() is None

    try:
        assert asyncio.run(tidied())
    finally:
        gc.unfreeze()
