"""Ask, stream, ask many: one path from a question to an answer, whatever the model behind it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from huayu.chat.backend import Backend, Piece, Prompt
from huayu.chat.conversation import Conversation, Picture, PictureSource, Turn
from huayu.chat.language import is_traditional, with_language_request
from huayu.chat.options import ChatOptions, Settings, settle
from huayu.chat.text import TextPath
from huayu.errors import Cancelled, PromptError
from huayu.runtime.language import language_of
from huayu.runtime.memory import guarded
from huayu.types import Usage, Verdict

Pictures = PictureSource | Picture | Sequence[PictureSource | Picture] | None
Request = tuple[Pictures, str] | tuple[Pictures, str, Conversation | None]


@dataclass(frozen=True)
class ChatReply:
    """An answer.

    ``text``; the ``conversation`` with this turn added, to go on from; ``usage``; ``verdicts`` of the checks that are
    set up (none are by default); the ``language`` that the text is really in; ``finish``: ``"stop"`` (the model ended,
    or a stop string came), ``"length"`` or ``"cancelled"``; ``dropped_turns``: how many of the oldest turns the model
    could not be shown, because its context is full.
    """

    text: str
    conversation: Conversation
    usage: Usage
    verdicts: tuple[Verdict, ...] = ()
    language: str = "en"
    finish: Literal["stop", "length", "cancelled"] = "stop"
    dropped_turns: int = 0


class ChatStream:
    """Pieces of one answer, as they are sure. After the last one, ``reply`` is there.

    ``cancel()`` may be called from any thread: the pieces end, and the reply holds what came. Closing or leaving the
    iterator early stops the model too.
    """

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._pieces = (text for _, text in run)
        self._ended = False

    def __iter__(self) -> ChatStream:
        return self

    def __next__(self) -> str:
        try:
            return next(self._pieces)
        except StopIteration:
            self._ended = True
            raise

    def cancel(self) -> None:
        """Stop the answer; what was not yet shown is not lost, it is in the reply."""
        self._run.cancel.set()

    def close(self) -> None:
        """Stop the answer and take what came as the reply."""
        self.cancel()
        for _ in self:
            """The run ends at its next step."""

    @property
    def reply(self) -> ChatReply:
        """The whole answer. Raises RuntimeError before the last piece was taken."""
        if not self._ended:
            raise RuntimeError("the answer is not complete: take all pieces, or close the stream, before asking for it")
        return self._run.replies()[0]


class ChatModel:
    """A model to talk with; :func:`huayu.load_chat` makes one.

    ``backend`` turns conversations into answers; ``name`` says which model it is.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.backend.name

    def ask(
        self,
        picture: Pictures,
        question: str,
        *,
        conversation: Conversation | None = None,
        options: ChatOptions | None = None,
        **changes: Any,
    ) -> ChatReply:
        """The whole answer; arguments and errors as :meth:`stream`."""
        stream = self.stream(picture, question, conversation=conversation, options=options, **changes)
        for _ in stream:
            """All pieces."""
        return stream.reply

    def stream(
        self,
        picture: Pictures,
        question: str,
        *,
        conversation: Conversation | None = None,
        options: ChatOptions | None = None,
        **changes: Any,
    ) -> ChatStream:
        """Pieces of the answer as they are sure; joined they are ``reply.text``.

        ``picture``: path, URL, bytes, PIL image, several of them in a list, or None to go on about those of the
        ``conversation``. ``changes`` are fields of :class:`ChatOptions`, laid over ``options``.
        Raises, before anything runs: ImageError; PromptError for an empty question or one over the model's context;
        OptionError for options that do not fit; TypeError for an unknown option.
        """
        return ChatStream(self._start([(picture, question, conversation)], options, changes))

    def ask_batch(
        self,
        requests: Sequence[Request],
        *,
        options: ChatOptions | None = None,
        batch_size: int = 8,
        **changes: Any,
    ) -> list[ChatReply]:
        """Answers to many ``(picture, question)`` or ``(picture, question, conversation)``, ``batch_size`` at a time.

        Each is what :meth:`ask` would give, up to rounding (with sampling: for another draw). Errors as
        :meth:`stream`, before anything runs in that group.
        """
        replies: list[ChatReply] = []
        for start in range(0, len(requests), batch_size):
            run = self._start(requests[start : start + batch_size], options, changes)
            for _ in run:
                """To the end."""
            replies += run.replies()
        return replies

    def _start(self, requests: Sequence[Request], options: ChatOptions | None, changes: dict[str, Any]) -> _Run:
        options = replace(options or ChatOptions(), **changes)
        settings = settle(options, self.backend.defaults)
        return _Run(self.backend, [self._row(request, settings) for request in requests], settings)

    def _row(self, request: Request, settings: Settings) -> _Row:
        source, question, *rest = request
        if not question.strip():
            raise PromptError("The question is empty (0 characters; at least 1).", "问题为空（0 个字；至少 1 个）。")
        before = next(iter(rest), None) or Conversation()
        conversation = before.with_pictures(_pictures(source))
        asked = with_language_request(question, settings.answer_language)
        with guarded():
            prompt = self.backend.prepare(conversation, asked)
        traditional = not self.backend.reads_traditional and is_traditional(question)
        path = TextPath(settings.stop, traditional and settings.answer_language != "en")
        return _Row(question, conversation, len(conversation.pictures) - len(before.pictures), prompt, path)


@dataclass
class _Row:
    """One question on its way."""

    question: str
    conversation: Conversation
    num_pictures: int
    prompt: Prompt
    path: TextPath
    num_tokens: int = 0
    finish: Literal["stop", "length", "cancelled"] | None = None
    seconds: float = field(default=0.0)


class _Run:
    """Rows that are answered together; iterating gives (row, text) until every row has finished."""

    def __init__(self, backend: Backend, rows: list[_Row], settings: Settings) -> None:
        self.cancel = threading.Event()
        self._rows = rows
        self._pieces = self._generate(backend, settings)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return self._pieces

    def replies(self) -> list[ChatReply]:
        """One for each row, once the run has ended."""
        return [_reply(row) for row in self._rows]

    def _generate(self, backend: Backend, settings: Settings) -> Iterator[tuple[int, str]]:
        begin = time.perf_counter()
        pieces = backend.generate([row.prompt for row in self._rows], settings, self.cancel)
        try:
            for piece in _guarded(pieces):
                row = self._rows[piece.row]
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
                    yield piece.row, shown
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


def _pictures(source: Pictures) -> list[Picture]:
    if source is None:
        return []
    several = list(source) if isinstance(source, list | tuple) else [source]
    return [picture if isinstance(picture, Picture) else Picture.open(picture) for picture in several]


def _reply(row: _Row) -> ChatReply:
    text = row.path.text
    language = language_of(text or row.question)
    turn = Turn(row.question, text, language, row.num_pictures)
    usage = Usage(row.prompt.num_tokens, row.num_tokens, row.seconds)
    return ChatReply(
        text,
        row.conversation.with_turn(turn),
        usage,
        language=language,
        finish=row.finish or "cancelled",
        dropped_turns=row.prompt.dropped_turns,
    )
