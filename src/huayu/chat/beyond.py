"""Answers with more than one look: the parts of a picture, and a second look. Works with every backend."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from huayu.chat import tiles
from huayu.chat.conversation import Conversation, Picture
from huayu.chat.language import is_traditional, language_of_answer, to_simplified, to_traditional
from huayu.chat.looking import BRIEFLY
from huayu.chat.options import ChatOptions
from huayu.chat.run import ChatReply, Row, Run
from huayu.chat.second_look import SecondLook, agreed, judged, to_confirm, without
from huayu.chat.things import Thing, question_whether
from huayu.errors import Cancelled
from huayu.runtime.language import language_of
from huayu.types import Usage

if TYPE_CHECKING:
    from huayu.chat.model import ChatModel, Request

TOGETHER = 8  # questions that the model is asked in one batch


class _Cancel(threading.Event):
    """Told to stop, it tells the run that is going on."""

    run: Run | None = None

    def set(self) -> None:
        super().set()
        if self.run is not None:
            self.run.cancel.set()


@dataclass
class _Look:
    """One row and its reply so far; ``settled`` when nothing is left to ask about it."""

    row: Row
    reply: ChatReply
    settled: bool = False

    @property
    def traditional(self) -> bool:
        return is_traditional(self.row.typed)

    @property
    def question(self) -> str:
        return to_simplified(self.row.typed) if self.traditional else self.row.typed

    def said(self, reply: ChatReply) -> str:
        """The text in the Chinese that names are known in."""
        return to_simplified(reply.text) if self.traditional else reply.text


class Beyond(Run):
    """A run whose rows are looked at more than once: each answer comes whole, when it is settled."""

    def __init__(self, chat: ChatModel, rows: list[Row], options: ChatOptions) -> None:
        self._cancel = self.cancel = _Cancel()
        self._chat, self._options, self._rows = chat, options, rows
        self._plain = replace(options, tiles=None, ocr=False, second_look=False)
        self._small = not chat.backend.follows_requests
        self._gone: set[int] = set()
        self._final: list[ChatReply] = []
        self._whole = self._begin(rows, self._plain)
        self._pieces = self._in_turn()

    def replies(self) -> list[ChatReply]:
        """One for each row, once the run has ended."""
        return self._final

    def reply(self, index: int) -> ChatReply | None:
        """Of one row, once the run has ended."""
        return self._final[index] if self._final else None

    def cancel_row(self, index: int) -> None:
        """End one row, from any thread; the others go on. The last one ends the run."""
        self._gone.add(index)
        self._whole.cancel_row(index)
        if len(self._gone) == len(self._rows):
            self.cancel.set()

    def _in_turn(self) -> Iterator[tuple[int, str]]:
        begin = time.perf_counter()
        for _ in self._whole:
            """The answers about the whole pictures are not shown: they may change."""
        looks = [_Look(row, reply) for row, reply in zip(self._rows, self._whole.replies(), strict=True)]
        ended = [look for look in looks if look.reply.finish in ("stop", "length")]
        try:
            self._look_closer([look for look in ended if look.row.conversation.pictures])
        except Cancelled:
            for look in looks:
                look.reply = replace(look.reply, finish="cancelled")
        seconds = time.perf_counter() - begin
        for number, look in enumerate(looks):
            usage = replace(look.reply.usage, seconds=seconds)
            finish = "cancelled" if number in self._gone else look.reply.finish
            self._final.append(replace(look.reply, usage=usage, finish=finish))
        for number, reply in enumerate(self._final):
            if reply.text:
                yield number, reply.text

    def _look_closer(self, looks: Sequence[_Look]) -> None:
        if self.cancel.is_set():
            raise Cancelled
        if self._options.tiles:
            self._look_at_tiles([look for look in looks if tiles.is_for_parts(look.question)])
        if self._options.second_look:
            self._look_again([look for look in looks if not look.settled])

    def _look_at_tiles(self, looks: Sequence[_Look]) -> None:
        """Ask each tile, join what they say."""
        assert self._options.tiles is not None
        parts = [tiles.cut(look.row.conversation.pictures[0].image, self._options.tiles) for look in looks]
        views = [
            [replace(look.row.conversation, pictures=(Picture(part.image),)) for part in own]
            for look, own in zip(looks, parts, strict=True)
        ]
        asked = [(None, look.row.question, view) for look, own in zip(looks, views, strict=True) for view in own]
        answers = iter(self._ask(asked, self._plain))
        found: list[list[tiles.Sighting]] = []
        for look, own in zip(looks, parts, strict=True):
            replies = [next(answers) for _ in own]
            look.reply = _with_usage(look.reply, replies)
            boxes, texts = [part.box for part in own], [look.said(reply) for reply in replies]
            if tiles.is_yes_or_no(look.question):
                found.append([])
                text, seen = tiles.any_yes(look.question, texts, boxes, small=self._small)
                if text:
                    self._settle(look, text, seen)
            else:
                found.append(tiles.sightings(look.said(look.reply), texts))
        self._confirm(looks, views, found)
        for look, own, kept in zip(looks, parts, found, strict=True):
            if kept:
                self._settle(look, *tiles.joined(kept, [part.box for part in own], self._language(look)))

    def _confirm(
        self,
        looks: Sequence[_Look],
        views: Sequence[Sequence[Conversation]],
        found: Sequence[list[tiles.Sighting]],
    ) -> None:
        """Ask about what only the whole named; with a second look, about each thing in each tile that named it.

        What is denied leaves ``found``.
        """
        cases: list[tuple[_Look, list[tiles.Sighting], tiles.Sighting, int | None, Conversation]] = []
        for look, own, sightings in zip(looks, views, found, strict=True):
            for sighting in sightings:
                if not sighting.tiles:
                    cases.append((look, sightings, sighting, None, _alone(look.row.conversation)))
                elif self._options.second_look:
                    cases += [(look, sightings, sighting, at, _alone(own[at])) for at in sighting.tiles]
        answers = self._asked_again([(look, sighting.thing, view) for look, _, sighting, _, view in cases])
        for (_, sightings, sighting, at, _), answer in zip(cases, answers, strict=True):
            if answer.there is not False:
                continue
            if at is not None:
                sighting.tiles.remove(at)
            if not sighting.tiles:
                sightings.remove(sighting)

    def _look_again(self, looks: Sequence[_Look]) -> None:
        """Ask about each thing that an answer names, and take out what is denied."""
        named = [to_confirm(look.said(look.reply)) for look in looks]
        asked = [
            (look, thing, _alone(look.row.conversation))
            for look, own in zip(looks, named, strict=True)
            for thing in own
        ]
        answers = iter(self._asked_again(asked))
        for look, own in zip(looks, named, strict=True):
            denied = {thing.key for thing in own if next(answers).there is False}
            if denied:
                self._settle(look, without(look.said(look.reply), denied))

    def _asked_again(self, asked: Sequence[tuple[_Look, Thing, Conversation]]) -> list[SecondLook]:
        """The answers to "is there one?", noted in the replies as well."""
        cases = [(number, language) for number, (_, thing, _) in enumerate(asked) for language in self._tongues(thing)]
        requests = [
            (None, question_whether(asked[number][1], language, small=self._small), asked[number][2])
            for number, language in cases
        ]
        said: list[list[SecondLook]] = [[] for _ in asked]
        for (number, language), reply in zip(cases, self._ask(requests, BRIEFLY), strict=True):
            look, thing, _ = asked[number]
            said[number].append(judged(thing, reply.text, language, small=self._small))
            look.reply = _with_usage(look.reply, [reply])
        answers = [agreed(own) for own in said]
        for (look, _, _), answer in zip(asked, answers, strict=True):
            look.reply = replace(look.reply, second_look=(*look.reply.second_look, answer))
        return answers

    def _tongues(self, thing: Thing) -> Sequence[str]:
        """The languages to ask in: a small model, whose no is often wrong in one of them, is asked in both."""
        return ("zh", "en") if self._small and thing.concept else (language_of(thing.words),)

    def _settle(self, look: _Look, text: str, seen: Sequence[tiles.Seen] = ()) -> None:
        """The answer is now ``text``."""
        if look.traditional and not self._chat.backend.reads_traditional:
            text = to_traditional(text)
        language = language_of_answer(text, look.question)
        past = look.reply.conversation
        turn = replace(past.turns[-1], answer=text, language=language)
        past = replace(past, turns=(*past.turns[:-1], turn))
        look.reply = replace(look.reply, text=text, language=language, conversation=past, seen=tuple(seen))
        look.settled = True

    def _language(self, look: _Look) -> str:
        wanted = self._options.answer_language
        return language_of(look.question) if wanted == "auto" else wanted

    def _ask(self, requests: Sequence[Request], options: ChatOptions) -> list[ChatReply]:
        """All answers, in batches. Raises Cancelled."""
        replies: list[ChatReply] = []
        for start in range(0, len(requests), TOGETHER):
            rows = [self._chat.prepare(request, options) for request in requests[start : start + TOGETHER]]
            run = self._begin(rows, options)
            for _ in run:
                """To the end."""
            if self.cancel.is_set():
                raise Cancelled
            replies += run.replies()
        return replies

    def _begin(self, rows: list[Row], options: ChatOptions) -> Run:
        run = self._chat.start(rows, options)
        self._cancel.run = run
        if self.cancel.is_set():
            run.cancel.set()
        return run


def _alone(conversation: Conversation) -> Conversation:
    """The pictures without what was said about them."""
    return Conversation(pictures=conversation.pictures)


def _with_usage(reply: ChatReply, others: Sequence[ChatReply]) -> ChatReply:
    """The reply with the tokens of the other answers."""
    every = [reply.usage, *(other.usage for other in others)]
    usage = Usage(sum(one.prompt_tokens for one in every), sum(one.completion_tokens for one in every), 0.0)
    return replace(reply, usage=usage)
