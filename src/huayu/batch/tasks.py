"""What is done with a row: a caption, answers to questions, paintings. One worker opens its model once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from huayu.batch.inputs import Row, Shard, read_shard, split
from huayu.errors import HuayuError, ImageError, LabelError, OptionError, PromptError

# What may be wrong with one row; all other errors end the batch.
ROW_ERRORS = (PromptError, ImageError, OptionError, LabelError)
TASKS = ("caption", "ask", "paint")

Outcome = dict[str, Any] | HuayuError
Worker = Callable[[Iterable[Row], Path], Iterator[tuple[Row, Outcome]]]


class AnyJob(Protocol):
    """What shards are cut from, and what is done with them: all that :func:`huayu.batch.run` asks of a batch."""

    @property
    def output(self) -> Path: ...
    @property
    def loading(self) -> dict[str, Any]: ...
    @property
    def stop_on_error(self) -> bool: ...
    def split(self) -> tuple[list[Shard], str]:
        """The shards, and a fingerprint of the inputs."""
        ...

    def read(self, shard: Shard) -> Iterator[Row]:
        """The rows of a shard."""
        ...

    def open_worker(self) -> Worker:
        """Opens what is needed; it gives each row of a shard its outcome, in order."""
        ...

    def plan(self) -> dict[str, Any]:
        """What must be the same for the batch to go on."""
        ...


@dataclass(frozen=True)
class Job:
    """A whole batch.

    ``task``: one of :data:`TASKS`. ``inputs``: see :func:`huayu.batch.split`. ``output``: a folder. ``model``, and
    ``loading`` for :func:`huayu.load_chat` or :func:`huayu.load_paint`. ``options``: fields of ChatOptions or
    PaintOptions for every row; paint rows may lay their own over them. ``questions``: asked of rows that bring none.
    ``batch_size``: questions answered together. ``shard_size``: rows that are written, and done again, as one.
    ``stop_on_error``: a row that cannot be done ends the batch instead of being skipped.

    Raises OptionError.
    """

    task: str
    inputs: tuple[str, ...]
    output: Path
    model: str | None = None
    loading: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    questions: tuple[str, ...] = ()
    batch_size: int = 8
    shard_size: int = 64
    stop_on_error: bool = False

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            known = ", ".join(TASKS)
            raise OptionError(f"No task {self.task!r}; there are: {known}.", f"没有任务 {self.task!r}；现有：{known}。")
        for name in ("batch_size", "shard_size"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be ≥ 1.", f"{name} 应 ≥ 1。")
        if self.task == "caption" and len(self.questions) != 1:
            raise OptionError("caption needs one question.", "caption 需要一个问题。")
        if self.task == "paint" and self.questions:
            raise OptionError("Questions are not for paint.", "paint 不用问题。")
        self.settings()

    def split(self) -> tuple[list[Shard], str]:
        return split(self.inputs, self.shard_size)

    def read(self, shard: Shard) -> Iterator[Row]:
        return read_shard(shard)

    def open_worker(self) -> Worker:
        return open_worker(self)

    def plan(self) -> dict[str, Any]:
        kept = ("task", "model", "options", "questions", "shard_size", "batch_size")
        return {name: getattr(self, name) for name in kept}

    def settings(self) -> Any:
        """The options as ChatOptions or PaintOptions. Raises OptionError."""
        from huayu.chat.options import ChatOptions
        from huayu.paint.options import PaintOptions

        kind: Any = PaintOptions if self.task == "paint" else ChatOptions
        try:
            return kind(**self.options)
        except TypeError as problem:
            raise OptionError(f"{problem}.", f"选项有误：{problem}。") from problem


def open_worker(job: Job) -> Worker:
    """Opens the model; the worker gives each row of a shard its outcome, in order. Raises ModelError and others."""
    if job.task == "paint":
        from huayu.paint import load_paint

        return _Painting(job, load_paint(job.model, **job.loading))
    from huayu.chat import load_chat

    return _Asking(job, load_chat(job.model, **job.loading))


@dataclass
class _Asked:
    """A row on its way."""

    row: Row
    pictures: list[Any] = field(default_factory=list)
    questions: tuple[str, ...] = ()
    replies: list[Any] = field(default_factory=list)
    problem: HuayuError | None = None


class _Asking:
    """Questions of several rows are answered together."""

    def __init__(self, job: Job, chat: Any) -> None:
        self.job, self.chat, self.options = job, chat, job.settings()

    def __call__(self, rows: Iterable[Row], _: Path) -> Iterator[tuple[Row, Outcome]]:
        waiting: deque[_Asked] = deque()
        pairs = self._pairs(rows, waiting)
        while group := list(islice(pairs, self.job.batch_size)):
            for pair, reply in zip(group, self._answer(group), strict=True):
                pair[0].replies.append(reply)
            while waiting and len(waiting[0].replies) == len(waiting[0].questions):
                yield self._outcome(waiting.popleft())
        yield from map(self._outcome, waiting)

    def _pairs(self, rows: Iterable[Row], waiting: deque[_Asked]) -> Iterator[tuple[_Asked, str]]:
        from huayu.chat import Picture

        for row in rows:
            asked = _Asked(row, problem=row.problem)
            waiting.append(asked)
            if row.problem is None:
                try:
                    asked.questions = self._questions(row)
                    asked.pictures = [Picture.open(source, allow_url=False) for source in row.pictures()]
                    if not asked.pictures and self.job.task == "caption":
                        raise ImageError("There is no picture.", "没有图片。")
                except ROW_ERRORS as problem:
                    asked.problem, asked.questions = problem, ()
            yield from ((asked, question) for question in asked.questions)

    def _questions(self, row: Row) -> tuple[str, ...]:
        if self.job.task == "caption":
            return self.job.questions
        own = row.fields.get("questions", row.fields.get("question"))
        questions = tuple([own] if isinstance(own, str) else own or self.job.questions)
        if not questions or not all(isinstance(question, str) for question in questions):
            raise PromptError("question or questions is missing.", "缺少 question 或 questions。")
        return questions

    def _answer(self, group: list[tuple[_Asked, str]]) -> list[Any]:
        """A reply for each, or what is wrong with it: what one row did wrong must not cost the others."""
        requests = [(asked.pictures, question) for asked, question in group]
        try:
            return self.chat.ask_batch(requests, options=self.options, batch_size=len(requests))
        except ROW_ERRORS as problem:
            return [problem] if len(group) == 1 else [self._answer([pair])[0] for pair in group]

    def _outcome(self, asked: _Asked) -> tuple[Row, Outcome]:
        problem = asked.problem or next((reply for reply in asked.replies if isinstance(reply, HuayuError)), None)
        if problem is not None:
            return asked.row, problem
        said = [
            {"question": question, "text": reply.text, "finish": reply.finish, "tokens": reply.usage.completion_tokens}
            for question, reply in zip(asked.questions, asked.replies, strict=True)
        ]
        return asked.row, said[0] if self.job.task == "caption" else {"answers": said}


class _Painting:
    """One prompt after the other; its pictures together, as far as ``batch_size`` says."""

    def __init__(self, job: Job, painter: Any) -> None:
        self.options, self.painter = job.settings(), painter

    def __call__(self, rows: Iterable[Row], folder: Path) -> Iterator[tuple[Row, Outcome]]:
        for row in rows:
            try:
                yield row, self._paint(row, folder)
            except ROW_ERRORS as problem:
                yield row, problem

    def _paint(self, row: Row, folder: Path) -> dict[str, Any]:
        from huayu.paint.batch import read_row

        if row.problem is not None:
            raise row.problem
        given = {name: value for name, value in row.fields.items() if name != "id"}
        given |= {name: row.picture(name) for name in ("image", "mask") if name in given}
        prompt, options = read_row(given, self.options)
        result = self.painter.paint(prompt, options=options)
        paths = result.save(folder / f"{row.number:06}.png")
        return {
            "prompt": prompt,
            "pictures": [path.name for path in paths],
            "seeds": result.seeds,
            "finish": result.finish,
            "verdicts": [asdict(verdict) for verdict in result.verdicts],
        }
