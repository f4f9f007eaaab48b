"""Messages as clients send them → what was said and shown so far, and the question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from huayu.chat.conversation import Conversation, Picture, Turn
from huayu.runtime.language import language_of
from huayu.serving import limits, schemas
from huayu.serving.errors import BadRequest
from huayu.serving.fetch import picture_from
from huayu.serving.settings import ServeSettings


def count_pictures(messages: Iterable[schemas.Message]) -> int:
    """In all messages, before any is looked at."""
    parts = (part for message in messages if isinstance(message.content, list) for part in message.content)
    return sum(part.type == "image_url" for part in parts)


async def conversation_of(messages: Sequence[schemas.Message], settings: ServeSettings) -> tuple[Conversation, str]:
    """What was said and shown, this question's pictures too, and the question. Raises BadRequest, ImageError."""
    if messages[-1].role != "user":
        raise BadRequest("The last message must be the user's.", "最后一条消息必须来自 user。", param="messages")
    system, asked, shown = list[str](), list[str](), 0
    conversation = Conversation()
    for message in messages:
        text = _text(message)
        if message.role in ("system", "developer"):
            system.append(text)
        elif message.role == "assistant":
            conversation = conversation.with_turn(Turn("\n".join(asked), text, language_of(text), shown))
            asked, shown = [], 0
        else:
            pictures = [await _picture(part.image_url.url, settings) for part in _image_parts(message)]
            before = len(conversation.pictures)
            conversation = conversation.with_pictures(pictures)
            shown += len(conversation.pictures) - before
            if text.strip():
                asked.append(text)
    return replace(conversation, system="\n".join(system)), "\n".join(asked)


def _text(message: schemas.Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content if isinstance(part, schemas.TextPart))


def _image_parts(message: schemas.Message) -> list[schemas.ImagePart]:
    return [part for part in message.content if isinstance(part, schemas.ImagePart)]


async def _picture(url: str, settings: ServeSettings) -> Picture:
    data = await picture_from(url, settings)
    return Picture(await limits.open_picture(data, settings), data)
