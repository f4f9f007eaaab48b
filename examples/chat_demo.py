"""A short conversation about a picture, half in Chinese and half in English. Only the public API is used."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from PIL import Image

import huayu
from huayu.runtime.language import say
from huayu.runtime.terminal import in_half_blocks

PICTURE = Path(__file__).with_name("dog.png")
QUESTIONS = ("这张图片里有什么？", "它能吃吗？", "What color is the background?", "How many things are there?")


def main() -> None:
    chat = huayu.load_chat()
    print(say("Picture", "图片") + f": {os.path.relpath(PICTURE)}")
    if sys.stdout.isatty():
        with Image.open(PICTURE) as image:
            print(in_half_blocks(image, width=32))
    print(say("Model", "模型") + f": {chat.name}\n")
    conversation = None
    for question in QUESTIONS:
        reply = chat.ask(PICTURE if conversation is None else None, question, conversation=conversation)
        conversation = reply.conversation
        print(f"  {say('You', '你')}: {question}\n  huayu: {reply.text}\n", flush=True)


if __name__ == "__main__":
    main()
