"""Sixteen people at once: ``python -m benchmarks.concurrency``. Prints one JSON object.

The same sixteen questions, each about a picture that was not seen before, through the server's engine: all at once, and
one after the other. ``concurrency16_speedup``: tokens/s of the one over tokens/s of the other, in turns in one process.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from itertools import islice, product
from statistics import median
from typing import Any

from benchmarks.process import ROOT, figures_of

PICTURES = ("table.png", "dog.png", "fruit_and_dog.png", "car_and_tree.png")
QUESTIONS = ("图里有什么？", "请描述这张图片。", "What is in the picture?", "Describe the picture.")


def figures(quick: bool = False, model: str | None = None) -> dict[str, Any]:
    """In a fresh process; ``model`` None is the embedded one."""
    return figures_of("benchmarks.concurrency", 1 if quick else 5, *([] if model is None else [model]))


def measure(rounds: int, model: str | None, count: int = 16) -> dict[str, Any]:
    """Medians of ``rounds``, after one that is not counted; ``count`` questions."""
    from huayu.chat import load_chat
    from huayu.serving.engine import BatchingEngine
    from huayu.serving.settings import ServeSettings
    from huayu.serving.shelf import Shelf

    settings = ServeSettings(chat_models=(), paint_models=())
    shelf = Shelf(settings, opened={"chat": load_chat(model, device="cpu")})
    taken: dict[str, list[float]] = {"at_once": [], "in_turn": []}

    async def compare() -> None:
        engine = BatchingEngine(shelf, settings.max_queue, settings.max_batch)
        for number in range(rounds + 1):
            for place, name in enumerate(taken):
                rate = await _tokens_per_second(engine, 2 * number + place, count, at_once=name == "at_once")
                taken[name] += [rate] if number else []
        await engine.drain(1)

    asyncio.run(compare())
    ratios = [a / b for a, b in zip(taken["at_once"], taken["in_turn"], strict=True)]
    return {
        "concurrency16_speedup": round(median(ratios), 2),
        "concurrency16_speedup_min": round(min(ratios), 2),
        "concurrency16_speedup_max": round(max(ratios), 2),
        "concurrency16_tokens_per_second": round(median(taken["at_once"]), 1),
        "concurrency1_tokens_per_second": round(median(taken["in_turn"]), 1),
        "concurrency_max_batch": settings.max_batch,
    }


async def _tokens_per_second(engine: Any, number: int, count: int, *, at_once: bool) -> float:
    """``number`` makes the pictures new."""
    from huayu.chat.options import ChatOptions
    from huayu.serving.engine import ChatJob

    options = ChatOptions(search="greedy", max_new_tokens=32)
    pairs = islice(enumerate(product(PICTURES, QUESTIONS)), count)
    jobs = [ChatJob("chat", asked, (_new(name, number, place),), None, options) for place, (name, asked) in pairs]
    begin = time.perf_counter()
    if at_once:
        replies = await asyncio.gather(*[(await engine.submit(job)).finished() for job in jobs])
    else:
        replies = [await (await engine.submit(job)).finished() for job in jobs]
    return sum(reply.usage.completion_tokens for reply in replies) / (time.perf_counter() - begin)


def _new(name: str, number: int, place: int) -> Any:
    from huayu.chat import Picture
    from huayu.data.pictures import open_picture

    image = open_picture(ROOT / "examples" / name)
    image.putpixel((0, 0), (number % 256, number // 256, place))
    return Picture(image)


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 5, next(iter(sys.argv[2:]), None))))
