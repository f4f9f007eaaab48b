"""Who says whether a painted picture shows what was asked for: real drawings, and huayu-chat-mini, which learned from
real drawings only and never saw a painted one."""

from __future__ import annotations

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from huayu.chat import ChatModel
from huayu.data import answers, paintings, world
from huayu.data.paint_captions import Order

COLUMNS = ("nearest top-1", "nearest top-5", "named", "background", "style")
QUESTION, BATCH = "What is this?", 16


def background_of(pixels: np.ndarray) -> np.ndarray:
    """(N, P, P, 3) → (N,) the nearest background colour of the middle of the four corners."""
    corners = np.median(pixels[:, [1, 1, -2, -2], [1, -2, 1, -2]].astype(np.float32), axis=1)
    colours = np.array([colour for _, _, colour in world.BACKGROUNDS], np.float32)
    return np.square(corners[:, None] - colours).sum(-1).argmin(1)


def named(chat: ChatModel, pixels: np.ndarray, concepts: list[int]) -> list[bool]:
    """Whether the chat model, asked what each of pixels (N, P, P, 3) shows, names that thing."""
    said = []
    for start in track(range(0, len(pixels), BATCH), "asking", console=Console(stderr=True)):
        pictures = [Image.fromarray(picture) for picture in pixels[start : start + BATCH]]
        said += chat.ask_batch([(picture, QUESTION, None) for picture in pictures], batch_size=BATCH)
    return [reply.text == answers.name([c], "en") for reply, c in zip(said, concepts, strict=True)]


def judge(pixels: np.ndarray, orders: list[Order], pictures: np.ndarray, chat: ChatModel) -> dict[str, list[bool]]:
    """What is right about each picture, by column."""
    concepts = [order.concept for order in orders]
    near = paintings.nearest(pixels, pictures, [order.shown[2] for order in orders])
    alike = paintings.nearest_style(pixels, pictures, [order.shown for order in orders])
    return {
        "nearest top-1": [r[0] == c for r, c in zip(near, concepts, strict=True)],
        "nearest top-5": [c in r[:5] for r, c in zip(near, concepts, strict=True)],
        "named": named(chat, pixels, concepts),
        "background": [b == order.shown[2] for b, order in zip(background_of(pixels).tolist(), orders, strict=True)],
        "style": [s == order.shown[1] for s, order in zip(alike, orders, strict=True)],
    }
