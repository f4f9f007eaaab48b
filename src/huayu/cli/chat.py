"""``huayu chat``: one answer, a conversation in the terminal, or one answer for each line of a pipe."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import typer

from huayu.chat import ChatModel, ChatOptions, ChatReply, Conversation, Picture, load_chat
from huayu.chat.ocr import require_reader
from huayu.errors import HuayuError, PromptError
from huayu.runtime.language import say

CLEAR, STOP = "clear", "stop"
_ERASE = "\r\x1b[K"


def run(
    pictures: list[str],
    question: str | None,
    model: str | None,
    loading: dict[str, Any],
    options: ChatOptions,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Everything that can be refused is refused before weights are read. Raises HuayuError, typer.Exit.

    In a terminal it goes on asking after the first question, unless only the answer (or its JSON) is wanted.
    """
    if question is not None and not question.strip():
        raise PromptError("The question is empty (0 characters; at least 1).", "问题为空（0 个字；至少 1 个）。")
    if options.ocr:
        require_reader()
    shown = [Picture.open(source) for source in pictures]
    with loading_bar(visible=not quiet) as progress:
        chat = load_chat(model, progress=progress, **loading)
    session = Session(chat, shown, options, as_json=as_json, quiet=quiet)
    talks = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    if question is not None:
        talks = talks and not (as_json or quiet)
        session.answer(question, stays=talks)
    if talks:
        session.talk()
    elif question is None:
        session.read_pipe()
    if session.failed:
        raise typer.Exit(1)


class Session:
    """A conversation and how it is shown."""

    def __init__(
        self, chat: ChatModel, pictures: list[Picture], options: ChatOptions, *, as_json: bool, quiet: bool
    ) -> None:
        self.chat, self.pictures, self.options = chat, pictures, options
        self.as_json, self.quiet = as_json, quiet
        self.conversation: Conversation | None = None
        self.failed = False

    def talk(self) -> None:
        """Ask for questions until ``stop``, the end of input, or Ctrl-C at the prompt."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 (importing it gives input() its line editing)
        if not self.quiet:
            _note(say(f"{self.chat.name} · clear forgets, stop ends", f"{self.chat.name} · clear 清空，stop 结束"))
        while True:
            try:
                line = input("" if self.quiet or self.as_json else say("You: ", "你："))
            except EOFError:
                return
            if not self._take(line, stays=True):
                return

    def read_pipe(self) -> None:
        """Answer each line of standard input."""
        for line in sys.stdin or ():
            if not self._take(line, stays=False):
                return

    def _take(self, line: str, *, stays: bool) -> bool:
        """Handle one line; False when it ends the conversation. A refused question does not end it."""
        line = line.strip()
        if line == STOP:
            return False
        if line == CLEAR:
            self.conversation = None
            if stays and not self.quiet:
                _note(say("Forgotten.", "已清空。"))
        elif line:
            try:
                self.answer(line, stays=stays)
            except HuayuError as error:
                self.failed = self.failed or not stays
                print(f"huayu: {say(error.en, error.zh)}", file=sys.stderr)
        return True

    def answer(self, question: str, *, stays: bool) -> None:
        """Show one answer. Ctrl-C ends the answer; the program too unless it ``stays``."""
        pictures = self.pictures if self.conversation is None else None
        stream = self.chat.stream(pictures, question, conversation=self.conversation, options=self.options)
        show: Callable[[str], None] = (lambda _: None) if self.as_json else _write
        try:
            for piece in stream:
                show(piece)
        except KeyboardInterrupt:
            stream.close()
            if not stays:
                raise
        reply = stream.reply
        self.conversation = reply.conversation
        self.failed = self.failed or (reply.finish == "refused" and not stays)
        if self.as_json:
            print(json.dumps(as_record(question, reply, self.chat.name), ensure_ascii=False), flush=True)
        else:
            print(flush=True)
        if not self.quiet:
            for sentence in remarks(reply, self.options):
                _note(sentence)


def as_record(question: str, reply: ChatReply, model: str) -> dict[str, Any]:
    """A reply for ``--json``; what is checked, read or looked at again only where it is."""
    record: dict[str, Any] = {
        "model": model,
        "question": question,
        "answer": reply.text,
        "language": reply.language,
        "finish": reply.finish,
        "dropped_turns": reply.dropped_turns,
        "prompt_tokens": reply.usage.prompt_tokens,
        "completion_tokens": reply.usage.completion_tokens,
        "seconds": round(reply.usage.seconds, 3),
    }
    if reply.verdicts:
        record["verdicts"] = [asdict(verdict) for verdict in reply.verdicts]
    for name in ("read", "seen", "second_look"):
        if found := getattr(reply, name):
            record[name] = [asdict(one) for one in found]
    return record


def remarks(reply: ChatReply, options: ChatOptions) -> Iterator[str]:
    """What a reader should know beside the answer."""
    if reply.dropped_turns:
        count = reply.dropped_turns
        yield say(
            f"the {count} oldest turn(s) no longer fit and were left out", f"最早的 {count} 轮已放不下，未包含在内"
        )
    if reply.finish == "length":
        whole = reply.usage.prompt_tokens + reply.usage.completion_tokens
        limit = "--max-length" if options.max_length is not None and whole >= options.max_length else "--max-new-tokens"
        yield say(f"cut at {limit}", f"已达 {limit} 上限")
    if reply.read:
        lines = " / ".join(line.text for line in reply.read)
        yield say(f"text in the picture: {lines}", f"图中文字：{lines}")
    elif options.ocr and reply.conversation.turns and reply.conversation.turns[-1].num_pictures:
        yield say("no text was found in the picture", "图中没有识别到文字")
    if denied := [look.thing for look in reply.second_look if look.there is False]:
        yield say(f"not there on a second look: {', '.join(denied)}", f"再看一眼，图里没有：{'、'.join(denied)}")
    if reply.finish == "cancelled":
        yield say("stopped", "已停止")
    if reply.finish != "refused":
        yield from (say(no.reason_en, no.reason_zh) for no in reply.verdicts if not no.allowed)
    if options.answer_language not in ("auto", reply.language):
        yield say("the model did not answer in the language asked for", "模型没有用所要求的语言回答")


@contextlib.contextmanager
def loading_bar(*, visible: bool, label: str = "") -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on a terminal's stderr, moved by ``progress(done bytes, total bytes)``; None where none shows.

    Until bytes are told there is only a word: importing takes seconds, and a download has a bar of its own.
    """
    if not visible or not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield None
        return
    label = label or say("Loading", "载入")
    print(f"{label} …", end="", flush=True, file=sys.stderr)
    with contextlib.ExitStack() as shown:
        bar: list[Callable[[int, int], None]] = []

        def progress(done: int, total: int) -> None:
            if not bar:
                bar.append(_bar(shown, label, total))
            bar[0](done, total)

        try:
            yield progress
        finally:
            if not bar:
                print(_ERASE, end="", flush=True, file=sys.stderr)


def _bar(shown: contextlib.ExitStack, label: str, total: int) -> Callable[[int, int], None]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    print(_ERASE, end="", flush=True, file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    bar = shown.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
    task = bar.add_task(label, total=total)
    return lambda done, total: bar.update(task, completed=done, total=total)


def _write(piece: str) -> None:
    print(piece, end="", flush=True)


def _note(sentence: str) -> None:
    print(f"({sentence})", file=sys.stderr)
