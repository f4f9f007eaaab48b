"""Ask, stream, ask many: one path from a question to an answer, whatever the model behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakSet

from huayu.chat import ocr
from huayu.chat.backend import Backend, Prompt
from huayu.chat.conversation import Conversation, Picture, PictureSource
from huayu.chat.language import is_traditional, with_language_request
from huayu.chat.ocr import TextLine
from huayu.chat.options import ChatOptions, Settings, settle
from huayu.chat.run import ChatReply, Row, Run
from huayu.chat.text import TextPath
from huayu.errors import OptionError, PromptError
from huayu.runtime.language import language_of
from huayu.runtime.memory import guarded
from huayu.safety import Guard, objections
from huayu.types import Verdict

Pictures = PictureSource | Picture | Sequence[PictureSource | Picture] | None
Request = tuple[Pictures, str] | tuple[Pictures, str, Conversation | None]


class ChatStream:
    """Pieces of one answer, as they are sure. After the last one, ``reply`` is there.

    ``cancel()`` may be called from any thread: the pieces end, and the reply holds what came. Closing or leaving the
    iterator early stops the model too.
    """

    def __init__(self, run: Run) -> None:
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

    ``backend`` turns conversations into answers; ``name`` says which model it is. ``guard`` checks questions and
    pictures before the model sees them; None checks nothing. Under its policy ``"blur"`` the model is shown the blurred
    picture.
    """

    def __init__(self, backend: Backend, guard: Guard | None = None) -> None:
        self.backend, self.guard = backend, guard
        self._checked: WeakSet[Picture] = WeakSet()

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
        Raises, before anything runs: ImageError; PromptError for an empty question, or one over the model's context or
        ``max_length``; OptionError for options that do not fit; TypeError for an unknown option.
        """
        options = replace(options or ChatOptions(), **changes)
        return ChatStream(self.start([self.prepare((picture, question, conversation), options)], options))

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
        options = replace(options or ChatOptions(), **changes)
        for start in range(0, len(requests), batch_size):
            rows = [self.prepare(request, options) for request in requests[start : start + batch_size]]
            run = self.start(rows, options)
            for _ in run:
                """To the end."""
            replies += run.replies()
        return replies

    def prepare(self, request: Request, options: ChatOptions) -> Row:
        """One request as a row for :meth:`start`, its pictures read and checked. Errors as :meth:`stream`."""
        settings = settle(options, self.backend.defaults)
        if options.ocr:
            ocr.require_reader()
        row = self._row(request, settings, reads=options.ocr)
        if options.tiles and (count := len(row.conversation.pictures)) > 1:
            raise OptionError(
                f"tiles are of one picture, and there are {count}.", f"tiles 只用于一张图片，而现有 {count} 张。"
            )
        settings.after(row.prompt.num_tokens)
        return row

    def start(self, rows: list[Row], options: ChatOptions) -> Run:
        """Answer rows together: iterate over the run for (row, text); a row may be cancelled alone."""
        if options.tiles or options.second_look:
            from huayu.chat.beyond import Beyond

            return Beyond(self, rows, options)
        settings = settle(options, self.backend.defaults)
        return Run(self.backend, rows, settings.after(max((row.prompt.num_tokens for row in rows), default=0)))

    def _row(self, request: Request, settings: Settings, *, reads: bool = False) -> Row:
        source, typed, *rest = request
        question: str = typed
        lines: tuple[TextLine, ...] = ()
        if not question.strip():
            raise PromptError("The question is empty (0 characters; at least 1).", "问题为空（0 个字；至少 1 个）。")
        before = next(iter(rest), None) or Conversation()
        conversation, verdicts, refused = self._inspect(question, before.with_pictures(_pictures(source)))
        if reads and not refused:
            question, lines = self._with_text(typed, conversation.pictures[len(before.pictures) :])
            conversation, more, refused = self._inspect(question, conversation)
            verdicts = tuple(dict.fromkeys((*verdicts, *more)))
        if refused:
            path = TextPath((), is_traditional(typed))
            return Row(typed, before, 0, Prompt(None, 0), path, verdicts, _refusal(verdicts, typed, settings))
        asked = question
        if self.backend.follows_requests:
            asked = with_language_request(question, settings.answer_language)
        with guarded():
            prompt = self.backend.prepare(conversation, asked)
        converts = not self.backend.reads_traditional and settings.json_schema is None
        traditional = converts and is_traditional(typed)
        path = TextPath(settings.stop, traditional and settings.answer_language != "en")
        num_pictures = len(conversation.pictures) - len(before.pictures)
        return Row(question, conversation, num_pictures, prompt, path, verdicts, typed=typed, read=lines)

    def _with_text(self, question: str, pictures: Sequence[Picture]) -> tuple[str, tuple[TextLine, ...]]:
        """The question after a quotation of what stands in the pictures, and the lines.

        A model that knows only the words of a small world is not given them: it could say nothing else.
        """
        lines = tuple(line for picture in pictures for line in ocr.read_text(picture.image))
        return ocr.with_text(question, lines) if self.backend.follows_requests else question, lines

    def _inspect(self, question: str, conversation: Conversation) -> tuple[Conversation, tuple[Verdict, ...], bool]:
        """The conversation as the model may see it, what the checks say, and whether the question is refused.

        Earlier questions are checked too, since a conversation may come from anywhere; each picture once.
        """
        if self.guard is None:
            return conversation, (), False
        said = self.guard.prompt(question)
        earlier = [turn.question for turn in conversation.window(0)]
        said += [no for text in earlier for no in objections(self.guard.prompt(text))]
        refused, pictures = self.guard.blocks(said), []
        for picture in conversation.pictures:
            if picture not in self._checked:
                image, verdicts = self.guard.picture(picture.image)
                said += verdicts
                refused = refused or (self.guard.policy == "block" and self.guard.blocks(verdicts))
                picture = picture if image is picture.image else Picture(image)
                if not refused:
                    self._checked.add(picture)
            pictures.append(picture)
        return replace(conversation, pictures=tuple(pictures)), tuple(said), refused


def _refusal(verdicts: Sequence[Verdict], question: str, settings: Settings) -> str:
    """Why, in the asker's language."""
    language = language_of(question) if settings.answer_language == "auto" else settings.answer_language
    why = objections(verdicts)[0]
    return f"抱歉，不能回答：{why.reason_zh}" if language == "zh" else f"Sorry, no answer: {why.reason_en}"


def _pictures(source: Pictures) -> list[Picture]:
    if source is None:
        return []
    several: list[Any] = list(source) if isinstance(source, list | tuple) else [source]
    return [picture if isinstance(picture, Picture) else Picture.open(picture) for picture in several]
