"""A short conversation about a picture, half in Chinese and half in English. Only the public API is used."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from PIL import Image

import huayu
from huayu.runtime.language import say

PICTURE = Path(__file__).with_name("dog.png")
QUESTIONS = ("这张图片里有什么？", "它能吃吗？", "What color is the background?", "How many things are there?")


def in_half_blocks(picture: Path, width: int) -> str:
    """The picture as ANSI text, two pixels in each character: the upper one as ink, the lower one as paper."""
    with Image.open(picture) as image:
        height = round(image.height / image.width * width / 2) * 2
        small = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    rows = []
    for y in range(0, height, 2):
        colours = [(*small.getpixel((x, y)), *small.getpixel((x, y + 1))) for x in range(width)]
        rows.append("".join("\x1b[38;2;{};{};{};48;2;{};{};{}m▀".format(*both) for both in colours) + "\x1b[0m")
    return "\n".join(rows)


def main() -> None:
    chat = huayu.load_chat()
    print(say("Picture", "图片") + f": {os.path.relpath(PICTURE)}")
    if sys.stdout.isatty():
        print(in_half_blocks(PICTURE, width=32))
    print(say("Model", "模型") + f": {chat.name}\n")
    conversation = None
    for question in QUESTIONS:
        reply = chat.ask(PICTURE if conversation is None else None, question, conversation=conversation)
        conversation = reply.conversation
        print(f"  {say('You', '你')}: {question}\n  huayu: {reply.text}\n", flush=True)


if __name__ == "__main__":
    main()
