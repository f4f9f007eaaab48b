"""A chat model as the judge of a painting: is what was asked for in it?"""

from __future__ import annotations

import re
from collections.abc import Callable

from PIL import Image

from huayu.chat import ChatModel
from huayu.runtime.language import language_of
from huayu.types import Verdict

# Answers are read by their first words: no before yes, since 没有 holds 有.
_NO = {"zh": re.compile("没|不是|不能|不在|否|无"), "en": re.compile(r"\b(no|not|none|cannot)\b|n't", re.IGNORECASE)}
_YES = {"zh": re.compile("有|是|对|能"), "en": re.compile(r"\b(yes|there (is|are)|it is|correct)\b", re.IGNORECASE)}


def looker(chat: ChatModel) -> Callable[[Image.Image, str], Verdict]:
    """Asks ``chat`` whether the picture shows the prompt, in the prompt's language, and reads the answer."""

    def look(image: Image.Image, prompt: str) -> Verdict:
        language = language_of(prompt)
        # A small model knows things by name, not whole prompts.
        asked_for = prompt if chat.backend.follows_requests else re.split("[,，。;；]", prompt)[0]
        answer = chat.ask(image, question_about(asked_for.strip(), language), search="greedy", max_new_tokens=64).text
        said = read_answer(answer, language)
        score = {True: 1.0, None: 0.5, False: 0.0}[said]
        return Verdict(said is True, "look", score, f"{chat.name}：{answer}", f"{chat.name}: {answer}")

    return look


def question_about(thing: str, language: str) -> str:
    """The question that is asked about a picture."""
    if language == "zh":
        return f"图里有{thing}吗？"
    if " " not in thing:
        thing = f"{'an' if thing[:1].lower() in 'aeiou' else 'a'} {thing}"
    return f"Is there {thing} in the picture?"


def read_answer(answer: str, language: str) -> bool | None:
    """Yes, no, or None when the first sentence says neither."""
    first = re.split(r"[。.!！?？\n]", answer.strip(), maxsplit=1)[0]
    if _NO[language].search(first):
        return False
    return True if _YES[language].search(first) else None
