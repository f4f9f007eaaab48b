"""A chat model as the judge of a painting: is what was asked for in it?"""

from __future__ import annotations

import re
from collections.abc import Callable

from PIL import Image

from huayu.chat.model import ChatModel
from huayu.chat.options import ChatOptions
from huayu.data import paint_pairs
from huayu.runtime.language import language_of
from huayu.types import Verdict

_UNSURE = re.compile(r"know|not sure|unsure|不知道|不确定|不清楚", re.IGNORECASE)
_GROUND = re.compile(r"^.*背景上?的|\s+(?:on|against|with)\s+an?\s.*$", re.IGNORECASE)
_A = re.compile("^一[个只条张朵棵辆头匹本把座架艘杯颗]")
# Answers are read by their first sentence: no before yes, since 没有 holds 有.
_NO = {"zh": re.compile("没|不是|不能|不在|否|无"), "en": re.compile(r"\b(no|not|none|cannot)\b|n't", re.IGNORECASE)}
_YES = {"zh": re.compile("有|是|对|能"), "en": re.compile(r"\b(yes|there (is|are)|it is|correct)\b", re.IGNORECASE)}

_LISTED = {"zh": "图里都有什么？", "en": "What are all the things in the picture?"}

BRIEFLY = ChatOptions(search="greedy", max_new_tokens=64)


def looker(chat: ChatModel) -> Callable[[Image.Image, str], Verdict]:
    """Asks ``chat`` whether the picture shows the prompt, in the prompt's language, and reads the answer."""

    def look(image: Image.Image, prompt: str) -> Verdict:
        small = not chat.backend.follows_requests
        answer = chat.ask(image, question_for(prompt, small=small), options=BRIEFLY).text
        return verdict_on(answer, prompt, chat.name, small=small)

    return look


def question_for(prompt: str, *, small: bool) -> str:
    """Whether the picture shows the prompt, asked in the prompt's language.

    A ``small`` model is asked only for the thing; of two things, what there is.
    """
    if small and paint_pairs.parse(prompt):
        return _LISTED[language_of(prompt)]
    return question_about(thing_of(prompt) if small else prompt, language_of(prompt))


def verdict_on(answer: str, prompt: str, name: str, *, small: bool) -> Verdict:
    """What the answer of the model ``name`` to :func:`question_for` says of the picture."""
    language = language_of(prompt)
    pair = paint_pairs.parse(prompt) if small else None
    said = read_answer(answer, language)
    if pair is not None:
        said = said is not None and all(_core(thing_of(part), language) in answer.lower() for part in pair[:2])
    elif small and said and names_another(answer, thing_of(prompt), language):
        said = False
    score = {True: 1.0, None: 0.5, False: 0.0}[said]
    return Verdict(said is True, "look", score, f"{name}：{answer}", f"{name}: {answer}")


def thing_of(prompt: str) -> str:
    """The thing by its name, which small models know: the first clause without background, in Chinese without "a"."""
    clause = re.split("[,，。;；]", prompt.strip())[0].strip()
    return _A.sub("", _GROUND.sub("", clause).strip()) or clause


def names_another(answer: str, thing: str, language: str) -> bool:
    """Whether a yes goes on about something else, as small models do: 有，图里有一只狗。 of a cat."""
    named = re.search("有.*有(.+)" if language == "zh" else r"there (?:is|are) (.+)", answer, re.IGNORECASE)
    return named is not None and _core(thing, language) not in named[1].lower()


def _core(thing: str, language: str) -> str:
    """What its name cannot do without."""
    return thing[-1:] if language == "zh" else thing.split()[-1].lower()


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
    if _UNSURE.search(first):
        return None
    if _NO[language].search(first):
        return False
    return True if _YES[language].search(first) else None
