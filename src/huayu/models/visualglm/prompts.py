"""Prompts of VisualGLM: what stands before the picture, what stands behind it. Source: spec visualglm §6."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from huayu.models.chatglm.prompts import process_response

History = Sequence[tuple[str, str]]
Flavour = Literal["hf", "sat"]
_OPEN, _CLOSE = "<img>", "</img>"
_TAG = re.compile(f"{_OPEN}(.*?){_CLOSE}")
_MARKERS = {False: ("问：", "答："), True: ("Q:", "A:")}


@dataclass(frozen=True)
class Parts:
    """A prompt as it is encoded: the picture stands between ``before`` and ``after``; without one all is ``after``.

    ``path``: what a published prompt named as its picture, None without a picture.
    """

    before: str
    after: str
    has_picture: bool
    path: str | None = None


def conversation(query: str, history: History = (), english: bool = False) -> str:
    """Earlier turns and the question, ending where the answer begins."""
    ask, answer = _MARKERS[english]
    return "".join(f"{ask}{asked}\n{answer}{said}\n" for asked, said in history) + f"{ask}{query}\n{answer}"


def build(query: str, history: History = (), *, picture: bool = False, english: bool = False) -> Parts:
    """The published prompt; what a user typed is text, so ``<img>`` in it moves nothing and opens nothing."""
    text = conversation(query, history, english)
    return Parts(_OPEN, _CLOSE + text, True) if picture else Parts("", text, False)


@dataclass(frozen=True)
class Published:
    """A prompt made as published code did, with its injections. ``position``: index behind the last ``<img>``.

    ``position`` counts in ``with_path``, and yet is where ``prompt``, from which the path was taken, is cut.
    """

    with_path: str
    prompt: str
    position: int
    path: str | None

    @property
    def parts(self) -> Parts:
        """What is encoded."""
        if self.path is None:
            return Parts("", self.prompt, False)
        return Parts(self.prompt[: self.position], self.prompt[self.position :], True, self.path)


def published(
    query: str,
    history: History = (),
    image_path: str = "",
    *,
    flavour: Flavour,
    english: bool = False,
    has_image: bool = False,
) -> Published:
    """Strictly as published: tags that were typed count. ``has_image``: sat was handed the picture itself.

    Raises what sat raises: IndexError for a typed ``<img>`` that nothing closes, AssertionError for a typed path beside
    a picture. Hugging Face code has no English form: ValueError.
    """
    if english and flavour == "hf":
        raise ValueError("the Hugging Face code has no English prompt")
    text = conversation(query, history, english)
    if image_path or has_image:
        text = f"{_OPEN}{image_path}{_CLOSE}{text}"
    position = text.rfind(_OPEN) + len(_OPEN)
    found = _TAG.findall(text)
    if flavour == "hf":
        path = found[-1] if found else None
        tagged = f"{_OPEN}{path}{_CLOSE}"
        return Published(text, text if path is None else text.replace(tagged, _OPEN + _CLOSE), position, path)
    if position < len(_OPEN):
        return Published(text, text, position, None)
    path = found[-1]
    if path and has_image:
        raise AssertionError("image and image_path cannot be both not None.")
    return Published(text, text.replace(path, "") if path else text, position, path)


def answer_of(decoded: str, english: bool = False) -> str:
    """The answer in a decoded prompt and answer, as sat cuts it: what follows the last marker. Source: spec §6."""
    return process_response(decoded).rpartition(_MARKERS[english][1])[2].strip()
