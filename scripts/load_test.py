"""Clients against a server: requests/s and the time to the first words, for so many clients at a time.

``python scripts/load_test.py`` starts a server of its own with the models inside, on 127.0.0.1, and asks it with 1, 8
and 32 clients. ``--url`` asks one that is there; on another machine only with ``--not-local``, and then it should be
yours. ``--markdown`` prints the table of docs/operations.md. Bounded: ``--requests`` for each number of clients, and
``--seconds`` at most.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ("table.png", "dog.png", "fruit_and_dog.png", "car_and_tree.png")
QUESTIONS = ("图里有什么？", "请描述这张图片。", "What is in the picture?", "Describe the picture.")
MOST_CLIENTS, MOST_REQUESTS = 256, 10_000


@dataclass
class Found:
    """Seconds of each answer that came; what else came, by status."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least ``share`` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


async def ask(client: httpx.AsyncClient, number: int, found: Found) -> None:
    """One streamed answer about a picture."""
    picture = base64.b64encode((ROOT / "examples" / PICTURES[number % 4]).read_bytes()).decode()
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
        {"type": "text", "text": QUESTIONS[number // 4 % 4]},
    ]
    body = {"model": "huayu-chat-mini", "messages": [{"role": "user", "content": parts}], "stream": True}
    begin, first = time.perf_counter(), None
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            if answer.status_code != 200:
                await answer.aread()
                _count(found, str(answer.status_code))
                return
            async for line in answer.aiter_lines():
                if first is None and line.startswith("data: {") and _says_something(line[6:]):
                    first = time.perf_counter() - begin
    except httpx.HTTPError as problem:
        _count(found, type(problem).__name__)
        return
    if first is None:
        _count(found, "no words")
        return
    found.first.append(first)
    found.whole.append(time.perf_counter() - begin)


def _says_something(data: str) -> bool:
    chunk = json.loads(data)
    return any(choice.get("delta", {}).get("content") for choice in chunk.get("choices", ()))


def _count(found: Found, what: str) -> None:
    found.refused[what] = found.refused.get(what, 0) + 1


async def load(url: str, key: str | None, clients: int, requests: int, seconds: float) -> Found:
    """``clients`` ask one after the other until ``requests`` are asked or the time is over."""
    found, numbers, end = Found(), iter(range(requests)), time.perf_counter() + seconds
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=seconds, limits=limits) as client:

        async def one_client() -> None:
            for number in numbers:
                if time.perf_counter() > end:
                    return
                await ask(client, number, found)

        begin = time.perf_counter()
        await asyncio.gather(*(one_client() for _ in range(clients)))
        found.seconds = time.perf_counter() - begin
    return found


@contextmanager
def own_server() -> Iterator[str]:
    """``huayu serve`` of this checkout; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "huayu", "serve", "--port", str(port)]
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            if process.poll() is not None:
                raise SystemExit("the server has ended; huayu serve says why")
            try:
                if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def row(clients: int, found: Found) -> dict[str, Any]:
    """The figures of one number of clients; seconds."""
    figures: dict[str, Any] = {"clients": clients, "answers": len(found.whole), "refused": found.refused}
    figures["requests_per_second"] = round(len(found.whole) / found.seconds, 2)
    for name, values in (("first_token", found.first), ("answer", found.whole)):
        for share in (0.5, 0.99):
            figures[f"{name}_p{100 * share:.0f}"] = round(percentile(values, share), 3) if values else None
    return figures


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of docs/operations.md."""
    cpus = os.cpu_count()
    lines = [
        f"Made {time.strftime('%Y-%m-%d')} by `scripts/load_test.py --markdown`; {cpus} cores, "
        f"load {os.getloadavg()[0]:.1f} at the end; huayu-chat-mini, streamed answers about a picture.\n",
        "| clients | answers | not answered | requests/s | first words p50 | p99 | whole answer p50 | p99 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        refused = ", ".join(f"{what}: {count}" for what, count in one["refused"].items()) or "0"
        times = [f"{one[name]} s" for name in ("first_token_p50", "first_token_p99", "answer_p50", "answer_p99")]
        cells = [one["clients"], one["answers"], refused, one["requests_per_second"], *times]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a server that is there; else one is started")
    parser.add_argument("--not-local", action="store_true", help="let --url be another machine, one of yours")
    parser.add_argument("--clients", default="1,8,32", help="numbers of clients, between commas")
    parser.add_argument("--requests", type=int, default=100, help="for each number of clients")
    parser.add_argument("--seconds", type=float, default=120, help="at most, for each number of clients")
    parser.add_argument("--markdown", action="store_true", help="a table instead of JSON lines")
    asked = parser.parse_args()
    counts = [int(count) for count in asked.clients.split(",")]
    if asked.requests > MOST_REQUESTS or max(counts) > MOST_CLIENTS:
        parser.error(f"at most {MOST_REQUESTS} requests and {MOST_CLIENTS} clients")
    if asked.url and urlsplit(asked.url).hostname not in ("127.0.0.1", "localhost", "::1") and not asked.not_local:
        parser.error("only this machine is asked, unless with --not-local")

    def measured(url: str) -> Iterator[dict[str, Any]]:
        key = os.environ.get("HUAYU_LOAD_KEY")
        asyncio.run(load(url, key, 1, 8, asked.seconds))  # the model is opened, and has seen each picture
        for clients in counts:
            yield row(clients, asyncio.run(load(url, key, clients, asked.requests, asked.seconds)))

    rows = []
    with own_server() if not asked.url else _there(asked.url) as url:
        for figures in measured(url):
            rows.append(figures)
            if not asked.markdown:
                print(json.dumps(figures), flush=True)
    if asked.markdown:
        print(markdown(rows))


@contextmanager
def _there(url: str) -> Iterator[str]:
    yield url


if __name__ == "__main__":
    main()
