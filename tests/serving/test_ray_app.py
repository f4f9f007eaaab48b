"""The application on a Ray cluster of this machine: same routes, a replica killed, replicas replaced under load.

Ray is large, so it is not in the test set; docs/operations.md says how these were run.
"""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

ray = pytest.importorskip("ray", reason="Ray is not installed (the extra scale)")
pytestmark = pytest.mark.filterwarnings("default")  # Ray warns of its own ways

DOG = base64.b64encode((Path(__file__).resolve().parents[2] / "examples" / "dog.png").read_bytes()).decode()
KEY = {"Authorization": "Bearer a-key-of-this-test"}
CHAT = "/v1/chat/completions"


def body(**more: Any) -> dict[str, Any]:
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DOG}"}},
        {"type": "text", "text": "图里是什么？"},
    ]
    return {"model": "huayu-chat-mini", "messages": [{"role": "user", "content": parts}], **more}


@pytest.fixture(scope="module")
def deploy() -> Iterator[Callable[..., str]]:
    """Deploys with these settings; the URL."""
    from ray import serve

    from huayu.runtime import cluster
    from huayu.serving import ray_app
    from huayu.serving.settings import ServeSettings

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    size = ray_app.ClusterSettings(chat_min=2, chat_max=2, num_cpus=0.5)

    def now(**settings: Any) -> str:
        keys = (KEY["Authorization"].removeprefix("Bearer "),)
        ray_app.deploy(ServeSettings(port=port, api_keys=keys, drain_seconds=20, device="cpu", **settings), size)
        return f"http://127.0.0.1:{port}"

    with cluster.connected(4):
        yield now
        serve.shutdown()


@pytest.fixture(scope="module")
def client(deploy: Callable[..., str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=deploy(), headers=KEY, timeout=120) as client:
        yield client


class Asking:
    """A client that asks again and again in the background; statuses and texts of what came."""

    def __init__(self, client: httpx.Client) -> None:
        self.came: list[tuple[int, str]] = []
        self._client, self._stop = client, threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Asking:
        self._thread.start()
        self.wait(2)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait(self, more: int) -> None:
        """Until so many more answers have come."""
        wanted, end = len(self.came) + more, time.monotonic() + 180
        while len(self.came) < wanted and time.monotonic() < end:
            time.sleep(0.05)
        assert len(self.came) >= wanted

    def _ask(self) -> None:
        while not self._stop.is_set():
            answer = self._client.post(CHAT, json=body(max_tokens=16))
            said = answer.json()
            text = said["choices"][0]["message"]["content"] if answer.status_code == 200 else said["error"]["code"]
            self.came.append((answer.status_code, text))


def replicas() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if "ServeReplica:huayu:chat" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            """It has ended."""
    return found


def test_the_routes_are_the_same(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert httpx.get(f"{client.base_url}/v1/models").status_code == 401
    listed = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert listed == ["huayu-chat-mini", "huayu-paint-mini"]
    whole = client.post(CHAT, json=body()).json()["choices"][0]["message"]["content"]
    assert "狗" in whole
    with client.stream("POST", CHAT, json=body(stream=True)) as answer:
        lines = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    deltas = [json.loads(line)["choices"][0]["delta"].get("content") or "" for line in lines[:-1]]
    assert "".join(deltas) == whole
    assert sum(map(bool, deltas)) > 1
    painted = client.post(
        "/v1/images/generations", json={"prompt": "一个红苹果", "seed": 3, "model": "huayu-paint-mini"}
    )
    with Image.open(io.BytesIO(base64.b64decode(painted.json()["data"][0]["b64_json"]))) as image:
        assert image.format == "PNG"
    missing = client.post(CHAT, json={**body(), "model": "nobody"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
    refused = client.post(CHAT, json={**body(), "messages": [{"role": "user", "content": " "}]})
    assert refused.status_code == 400


def test_a_killed_replica_costs_its_requests_and_comes_back(client: httpx.Client) -> None:
    with Asking(client) as asking:
        before = {process.pid for process in replicas()}
        assert len(before) == 2
        os.kill(min(before), signal.SIGKILL)
        asking.wait(3)
        end = time.monotonic() + 180
        while len({process.pid for process in replicas()} - before) < 1 and time.monotonic() < end:
            time.sleep(0.2)
        asking.wait(5)
    assert {status for status, _ in asking.came} <= {200, 503}
    assert all("狗" in text for status, text in asking.came if status == 200)
    assert [status for status, _ in asking.came[-5:]] == [200] * 5
    now = {process.pid for process in replicas()}
    assert len(now) == 2
    assert now != before


def test_replicas_are_replaced_without_a_failed_request(client: httpx.Client, deploy: Callable[..., str]) -> None:
    before = {process.pid for process in replicas()}
    with Asking(client) as asking:
        deploy(max_tokens=16)
        asking.wait(3)
    assert {status for status, _ in asking.came} == {200}
    assert not before & {process.pid for process in replicas()}
    assert client.post(CHAT, json=body(max_tokens=17)).status_code == 400
