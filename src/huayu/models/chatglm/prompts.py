"""Texts around a ChatGLM answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FULL_WIDTH = {",": "，", "!": "！", ":": "：", ";": "；", "?": "？"}
_HAN = "[\u4e00-\u9fff]"


def round_prompt(query: str, history: Sequence[tuple[str, str]] = ()) -> str:
    """The prompt of the text-only ChatGLM-6B: numbered rounds, or the bare query. Source: spec visualglm §6."""
    if not history:
        return query
    rounds = [f"[Round {number}]\n问：{asked}\n答：{answer}\n" for number, (asked, answer) in enumerate(history)]
    return f"{''.join(rounds)}[Round {len(history)}]\n问：{query}\n答："


def process_response(text: str) -> str:
    """An answer as published code shows it: trimmed, and half-width punctuation beside Chinese made full-width.

    Source: spec visualglm §6.
    """
    text = text.strip().replace("[[训练时间]]", "2023年")
    for half, full in _FULL_WIDTH.items():
        text = re.sub(f"({_HAN}){re.escape(half)}", rf"\g<1>{full}", text)
        text = re.sub(f"{re.escape(half)}({_HAN})", rf"{full}\g<1>", text)
    return text
