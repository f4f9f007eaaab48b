"""Short conversations about a picture, half in Chinese and half in English, with the two small models in the package.

Only the public API is used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

import huayu
from huayu.runtime.language import say
from huayu.runtime.terminal import in_half_blocks

PICTURE = Path(__file__).with_name("dog.png")
MODELS = ("huayu-chat-mini", "huayu-glm-mini")  # VisCPM-Chat's architecture, and VisualGLM's
QUESTIONS = ("这张图片里有什么？", "它能吃吗？", "What color is the background?", "How many things are there?")


def main() -> None:
    print(say("Picture", "图片") + f": {os.path.relpath(PICTURE)}")
    if sys.stdout.isatty():
        with Image.open(PICTURE) as image:
            print(in_half_blocks(image, width=32))
    for name, questions in zip(MODELS, (QUESTIONS, QUESTIONS[::2]), strict=True):
        talk(huayu.load_chat(name), questions)


def talk(chat: huayu.ChatModel, questions: Sequence[str]) -> None:
    """Ask one after the other, in one conversation."""
    print(say("Model", "模型") + f": {chat.name}\n")
    conversation = None
    for question in questions:
        reply = chat.ask(PICTURE if conversation is None else None, question, conversation=conversation)
        conversation = reply.conversation
        print(f"  {say('You', '你')}: {question}\n  huayu: {reply.text}\n", flush=True)


if __name__ == "__main__":
    main()
