"""What a chat needs of a model: turn a conversation into a prompt, and write answers piece by piece. No torch here."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from huayu.chat.conversation import Conversation
from huayu.chat.options import ChatOptions, Settings

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Prompt:
    """A conversation and its new question as one model takes them.

    ``inputs`` is the backend's own. ``num_tokens`` counts what the model reads; ``dropped_turns`` of the oldest turns
    did not fit and are not in it.
    """

    inputs: Any
    num_tokens: int
    dropped_turns: int = 0


@dataclass(frozen=True)
class Piece:
    """More text for one row of a batch. ``num_tokens`` written so far; ``finish`` is set on the row's last piece.

    ``"stop"``: the model ended its answer; ``"length"``: ``max_new_tokens`` did.
    """

    row: int
    text: str
    num_tokens: int
    finish: Finish | None = None


class Backend(Protocol):
    """One opened model.

    ``reads_traditional`` is False when Traditional Chinese should reach it as Simplified. ``follows_requests``: a
    sentence in the question tells it in which language to answer; otherwise :meth:`generate` sees to it.
    """

    name: str
    defaults: ChatOptions
    reads_traditional: bool
    follows_requests: bool

    def prepare(self, conversation: Conversation, question: str) -> Prompt:
        """Pack the turns and the question, oldest turns left out until they fit. Raises PromptError."""

    def generate(self, prompts: Sequence[Prompt], settings: Settings, cancel: threading.Event) -> Iterator[Piece]:
        """Write all answers; each row ends with a piece that has ``finish``. Raises Cancelled once it is told to."""
