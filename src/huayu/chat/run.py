"""Rows that are answered together: from prompts to text, and to replies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from huayu.chat.backend import Backend, Piece, Prompt
from huayu.chat.conversation import Conversation, Turn
from huayu.chat.language import language_of_answer
from huayu.chat.options import Settings
from huayu.chat.text import TextPath
from huayu.errors import Cancelled
from huayu.runtime.memory import guarded
from huayu.types import Usage, Verdict

if TYPE_CHECKING:
    from huayu.chat.ocr import TextLine
    from huayu.chat.second_look import SecondLook
    from huayu.chat.tiles import Seen

Finish = Literal["stop", "length", "cancelled", "refused"]


@dataclass(frozen=True)
class ChatReply:
    """An answer.

    ``text``; the ``conversation`` with this turn added, to go on from; ``usage``; ``verdicts`` of the checks that are
    set up (none are by default); the ``language`` that the text is really in; ``finish``: ``"stop"`` (the model ended,
    or a stop string came), ``"length"``, ``"cancelled"`` or ``"refused"`` (a check stopped the question: the model did
    not run, the text says why, and the conversation is the one before); ``dropped_turns``: how many of the oldest turns
    the model could not be shown, because its context is full. Only where it was asked for: ``read``, the text in the
    new pictures; ``seen``, what the tiles show and where; ``second_look``, each thing that was asked about again.
    """

    text: str
    conversation: Conversation
    usage: Usage
    verdicts: tuple[Verdict, ...] = ()
    language: str = "en"
    finish: Finish = "stop"
    dropped_turns: int = 0
    read: tuple[TextLine, ...] = ()
    seen: tuple[Seen, ...] = ()
    second_look: tuple[SecondLook, ...] = ()


@dataclass
class Row:
    """One question on its way; with a ``refusal`` it is not asked, and that is its answer.

    ``question`` as the model is asked, ``typed`` as the user put it, without what was ``read`` in the pictures.
    """

    question: str
    conversation: Conversation
    num_pictures: int
    prompt: Prompt
    path: TextPath
    verdicts: tuple[Verdict, ...] = ()
    refusal: str = ""
    typed: str = ""
    read: tuple[TextLine, ...] = ()
    num_tokens: int = 0
    finish: Finish | None = None
    seconds: float = 0.0


class Run:
    """Rows that are answered together; iterating gives (row, text) until every row has finished."""

    def __init__(self, backend: Backend, rows: list[Row], settings: Settings) -> None:
        self.cancel = threading.Event()
        self._rows = rows
        self._pieces = self._generate(backend, settings)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return self._pieces

    def replies(self) -> list[ChatReply]:
        """One for each row, once the run has ended."""
        return [_reply(row) for row in self._rows]

    def reply(self, index: int) -> ChatReply | None:
        """Of one row, as soon as it has finished."""
        row = self._rows[index]
        return None if row.finish is None else _reply(row)

    def cancel_row(self, index: int) -> None:
        """End one row, from any thread; the others go on. The last one ends the run."""
        row = self._rows[index]
        row.finish = row.finish or "cancelled"
        if all(row.finish is not None for row in self._rows):
            self.cancel.set()

    def _generate(self, backend: Backend, settings: Settings) -> Iterator[tuple[int, str]]:
        begin = time.perf_counter()
        for index, row in enumerate(self._rows):
            if row.refusal:
                row.finish = "refused"
                yield index, row.path.feed(row.refusal) + row.path.flush()
        asked = [index for index, row in enumerate(self._rows) if not row.refusal]
        if not asked:
            return
        pieces = backend.generate([self._rows[index].prompt for index in asked], settings, self.cancel)
        try:
            for piece in _guarded(pieces):
                index = asked[piece.row]
                row = self._rows[index]
                if row.finish is not None:
                    continue
                row.num_tokens = piece.num_tokens
                shown = row.path.feed(piece.text)
                if row.path.stopped:
                    row.finish = "stop"
                elif piece.finish is not None:
                    row.finish = piece.finish
                    shown += row.path.flush()
                row.seconds = time.perf_counter() - begin
                if shown:
                    yield index, shown
                if all(row.finish is not None for row in self._rows):
                    break
        except Cancelled:
            """What came stays; the rest follows below."""
        finally:
            self.cancel.set()
            pieces.close()  # type: ignore[attr-defined]
        yield from self._cut_short(begin)

    def _cut_short(self, begin: float) -> Iterator[tuple[int, str]]:
        for index, row in enumerate(self._rows):
            if row.finish is None:
                row.finish, row.seconds = "cancelled", time.perf_counter() - begin
                if shown := row.path.flush():
                    yield index, shown


def _guarded(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """The same pieces; a full device becomes OutOfMemory. Only the model's work is guarded, not the reader's."""
    while True:
        with guarded():
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece


def _reply(row: Row) -> ChatReply:
    text = row.path.text
    language = language_of_answer(text, row.question)
    conversation = row.conversation
    if not row.refusal:
        conversation = conversation.with_turn(Turn(row.question, text, language, row.num_pictures))
    usage = Usage(row.prompt.num_tokens, row.num_tokens, row.seconds)
    return ChatReply(
        text,
        conversation,
        usage,
        row.verdicts,
        language=language,
        finish=row.finish or "cancelled",
        dropped_turns=row.prompt.dropped_turns,
        read=row.read,
    )
