"""Half an hour of mixed requests at a bounded rate, on loopback: is the memory of the server flat?

python scripts/soak.py [--minutes 30] [--rate 2] [--json FILE]

Starts `huayu serve` with the models inside, warms it up for a fifth of the time, then compares its resident memory at
the beginning and at the end of the rest. Exit code 1 when it grew by more than the allowance, or an answer was a 500.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil
from PIL import Image

ALLOWED_MB = 16.0
KEY = "soak"
MIB = 2**20


def picture(rng: random.Random, side: int) -> bytes:
    """A PNG of coloured squares."""
    small = Image.frombytes("RGB", (4, 4), rng.randbytes(48))
    buffer = io.BytesIO()
    small.resize((side, side), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def chat(rng: random.Random, pictures: int = 0, **more: Any) -> dict[str, Any]:
    """A question, in one of the two languages, about so many pictures of several sizes."""
    question = rng.choice(["图里是什么？", "What is in the picture?", "你好", "Is there a dog?", "红色的东西在哪里？"])
    content: list[dict[str, Any]] = [{"type": "text", "text": question + " " * rng.randrange(40)}]
    for _ in range(pictures):
        data = base64.b64encode(picture(rng, rng.choice([64, 300, 1000]))).decode()
        content.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})
    messages = [{"role": "user", "content": content}]
    return {"model": "huayu-chat-mini", "messages": messages, "max_tokens": rng.choice([8, 32, 64]), **more}


async def one(client: httpx.AsyncClient, rng: random.Random) -> str:
    """One request of the mix; what came of it."""
    kind = rng.choices(
        ["text", "picture", "pictures", "stream", "leave", "choices", "paint", "edit", "broken", "huge"],
        [20, 20, 5, 15, 8, 5, 10, 5, 10, 2],
    )[0]
    path, body = "/v1/chat/completions", chat(rng, {"picture": 1, "stream": 1, "pictures": 3}.get(kind, 0))
    if kind in ("stream", "leave"):
        body |= {"stream": True, "max_tokens": 64}
        async with client.stream("POST", path, json=body) as answer:
            async for _ in answer.aiter_lines():
                if kind == "leave":
                    break
        return f"{kind} {answer.status_code}"
    if kind == "choices":
        body |= {"n": 3, "temperature": 1.0}
    elif kind == "paint":
        path = "/v1/images/generations"
        body = {"prompt": rng.choice(["一个红苹果", "a cat"]), "steps": 8, "n": rng.choice([1, 2])}
    elif kind == "edit":
        form = {"image": ("a.png", picture(rng, 128), "image/png")}
        answer = await client.post("/v1/images/edits", data={"prompt": "a dog", "steps": "8"}, files=form)
        return f"{kind} {answer.status_code}"
    elif kind == "broken":
        answer = await client.post(path, content=rng.randbytes(500), headers={"Content-Type": "application/json"})
        return f"{kind} {answer.status_code}"
    elif kind == "huge":
        body |= {"user": "x" * (33 * MIB)}
        try:
            return f"{kind} {(await client.post(path, json=body)).status_code}"
        except httpx.TransportError:  # it may be hung up on while it still sends
            return f"{kind} cut"
    answer = await client.post(path, json=body)
    return f"{kind} {answer.status_code}"


async def load(url: str, process: psutil.Process, seconds: float, rate: float) -> dict[str, Any]:
    """Ask for so long; memory every other second."""
    rng, seen = random.Random(0), Counter[str]()
    curve: list[tuple[float, float, int, int]] = []
    begin = time.monotonic()

    async def ask(client: httpx.AsyncClient) -> None:
        try:
            seen[await one(client, rng)] += 1
        except httpx.TransportError as problem:
            seen[type(problem).__name__] += 1

    async def sample() -> None:
        while True:
            with process.oneshot():
                curve.append(
                    (
                        time.monotonic() - begin,
                        process.memory_info().rss / MIB,
                        process.num_threads(),
                        process.num_fds(),
                    )
                )
            await asyncio.sleep(2)

    sampler = asyncio.create_task(sample())
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=180, trust_env=False) as client:
        tasks: set[asyncio.Task[None]] = set()
        while time.monotonic() - begin < seconds:
            if len(tasks) < 12:
                task = asyncio.create_task(ask(client))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(rng.expovariate(rate))
        await asyncio.gather(*tasks)
    sampler.cancel()
    return {"seen": dict(sorted(seen.items())), "curve": curve}


def start(log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server of its own, ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "huayu", "serve", "--port", str(port), "--preload"]
    log.unlink(missing_ok=True)  # another server may still write to it
    with log.open("wb") as file:
        process = subprocess.Popen(command, env={**os.environ, "HUAYU_API_KEYS": KEY}, stdout=file, stderr=file)
    while b"startup complete" not in log.read_bytes():
        if process.poll() is not None:
            raise SystemExit(log.read_text())
        time.sleep(0.2)
    return process, f"http://127.0.0.1:{port}"


def judge(result: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Memory at the beginning and the end of what comes after the warm-up, and its slope."""
    rest = [point for point in result["curve"] if point[0] > seconds / 5]
    fifth = max(1, len(rest) // 5)
    first, last = ([point[1] for point in part] for part in (rest[:fifth], rest[-fifth:]))
    slope = statistics.linear_regression([point[0] / 3600 for point in rest], [point[1] for point in rest]).slope
    return {
        "requests": sum(result["seen"].values()),
        "minutes": round(seconds / 60, 1),
        "rss_mb_after_start": round(result["curve"][0][1], 1),
        "rss_mb_after_warm_up": round(statistics.median(first), 1),
        "rss_mb_at_the_end": round(statistics.median(last), 1),
        "rss_mb_highest": round(max(point[1] for point in result["curve"]), 1),
        "rss_mb_per_hour": round(slope, 1),
        "threads": (rest[0][2], rest[-1][2]),
        "open_files": (rest[0][3], rest[-1][3]),
        "grew_mb": round(statistics.median(last) - statistics.median(first), 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=2, help="requests a second, at most 12 at once")
    parser.add_argument("--json", type=Path, help="also write the figures and the curve here")
    parser.add_argument(
        "--log", type=Path, default=Path(tempfile.gettempdir()) / "huayu-soak.log", help="the server's log"
    )
    given = parser.parse_args()
    process, url = start(given.log)
    try:
        result = asyncio.run(load(url, psutil.Process(process.pid), given.minutes * 60, given.rate))
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    finally:
        process.kill()
    figures = judge(result, given.minutes * 60)
    figures |= {"seen": result["seen"], "exit_code": code, "date": datetime.now(UTC).date().isoformat()}
    figures |= {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    if given.json:
        given.json.write_text(json.dumps({**figures, "curve": result["curve"]}), encoding="utf-8")
    print(json.dumps(figures, indent=1))
    step = max(1, len(result["curve"]) // 12)
    print("| minute | RSS, MB | threads | open files |\n|---|---|---|---|")
    for at, rss, threads, files in result["curve"][::step]:
        print(f"| {at / 60:.1f} | {rss:.0f} | {threads} | {files} |")
    faults = [name for name in result["seen"] if name.endswith((" 500", "Error"))]
    return int(bool(faults) or code != 0 or figures["grew_mb"] > ALLOWED_MB)


if __name__ == "__main__":
    sys.exit(main())
