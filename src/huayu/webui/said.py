"""What was said on the page, and how the history keeps it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from huayu.chat import ChatReply, Conversation
from huayu.chat.conversation import Picture
from huayu.webui.common import Room
from huayu.webui.history import Item


@dataclass(frozen=True)
class Said:
    """A question with the pictures it brought, its answer, and the conversation after it (None: it was refused)."""

    question: str
    pictures: tuple[Picture, ...]
    answer: str = ""
    after: Conversation | None = None


@dataclass(frozen=True)
class Talk:
    """What is on the page: immutable, so that undo, retry and edit only take a shorter one."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    said: tuple[Said, ...] = ()

    @property
    def conversation(self) -> Conversation | None:
        """What the next question goes on from."""
        return next((said.after for said in reversed(self.said) if said.after is not None), None)

    def upto(self, count: int) -> Talk:
        """Its first ``count`` questions."""
        return replace(self, said=self.said[:count])

    def item(self) -> Item:
        """For the history."""
        conversation = self.conversation or Conversation()
        title = " ".join(conversation.turns[0].question.split())[:60] if conversation.turns else ""
        return Item(self.id, "chat", title, 0.0, conversation.to_json())

    @classmethod
    def of(cls, item: Item) -> Talk:
        """From the history. Raises PromptError, ImageError."""
        whole = Conversation.from_json(item.body)
        said, shown = [], 0
        for count, turn in enumerate(whole.turns, 1):
            brought, shown = whole.pictures[shown : shown + turn.num_pictures], shown + turn.num_pictures
            after = Conversation(whole.turns[:count], whole.pictures[:shown])
            said.append(Said(turn.question, brought, turn.answer, after))
        return cls(item.id, tuple(said))


def remarks(room: Room, reply: ChatReply, answer_in: str) -> Iterator[str]:
    """What a reader should know beside the answer."""
    if reply.finish in ("cancelled", "length"):
        yield room.say("stopped" if reply.finish == "cancelled" else "cut")
    if reply.dropped_turns:
        yield room.say("dropped", reply.dropped_turns)
    if reply.read:
        yield room.say("text read", " / ".join(line.text for line in reply.read))
    if denied := [look.thing for look in reply.second_look if look.there is False]:
        yield room.say("not there", room.say("comma").join(denied))
    if reply.finish != "refused":
        chinese = room.language == "zh"
        yield from (no.reason_zh if chinese else no.reason_en for no in reply.verdicts if not no.allowed)
        if answer_in not in ("auto", None, reply.language) and reply.finish == "stop":
            yield room.say("wrong language")


def turn_at(talk: Talk, index: int | tuple[int, int]) -> int:
    """Which question a message belongs to."""
    at = index if isinstance(index, int) else index[0]
    return [turn for turn, said in enumerate(talk.said) for _ in range(3 if said.pictures else 2)][at]
