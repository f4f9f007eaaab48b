"""Traditional Chinese questions, and wishes for the answer's language."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from huayu.chat.conversation import Turn
from huayu.runtime.language import language_of, to_simplified, to_traditional

# A phrase never reaches over one of these: what stands between two of them converts the same alone and in its text.
_BREAK = re.compile(r"[^\u3400-\u9fff\uf900-\ufaff]")

_LATIN = re.compile(r"[A-Za-z]")
# Punctuation too, and new lines: a small model that is kept from one language flees into whatever is left.
_NOT_CHINESE = re.compile(r"[A-Za-z\n.,:;!?'\"]")
_NOT_ENGLISH = re.compile(r"[\n\u3000-\u303f\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")
_ASK_FOR = {"zh": "请用中文回答。", "en": "Please answer in English."}


def is_traditional(text: str) -> bool:
    """True when the text is surely Traditional: some characters are only Traditional, and none is only Simplified."""
    return to_simplified(text) != text and to_traditional(text) == text


def simplified(question: str, turns: Sequence[Turn]) -> tuple[str, tuple[Turn, ...]]:
    """A question and the turns before it, for a model that reads Simplified only; others stay as they are."""
    question = to_simplified(question) if is_traditional(question) else question
    return question, tuple(
        replace(turn, question=to_simplified(turn.question), answer=to_simplified(turn.answer))
        if is_traditional(turn.question)
        else turn
        for turn in turns
    )


def language_of_answer(text: str, question: str) -> str:
    """``"zh"`` or ``"en"``; an answer without words, such as ``3``, is in the language of its question."""
    return language_of(text) if _LATIN.search(text) or language_of(text) == "zh" else language_of(question)


def is_foreign(text: str, language: str) -> bool:
    """True when a short answer in ``language`` (``"zh"`` or ``"en"``) would not hold this text."""
    return bool((_NOT_CHINESE if language == "zh" else _NOT_ENGLISH).search(text))


def with_language_request(question: str, answer_language: str) -> str:
    """The question, followed by one sentence that asks for the language when it is not the question's own."""
    if answer_language in ("auto", language_of(question)):
        return question
    space = "" if re.search(r"[\s。！？]$", question) else " "
    return f"{question}{space}{_ASK_FOR[answer_language]}"


class TraditionalStream:
    """Converts a stream of pieces to Traditional Chinese, the same however it was cut.

    A run of Han characters is held back until something else ends it, since a later character can change an earlier
    one (发 in 头发 and 出发).
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """What can be shown now."""
        text = self._held + piece
        last = max((match.end() for match in _BREAK.finditer(text)), default=0)
        self._held = text[last:]
        return to_traditional(text[:last])

    def flush(self) -> str:
        """The rest."""
        text, self._held = self._held, ""
        return to_traditional(text)
