"""Talking about pictures: :func:`load_chat` opens a model, :class:`ChatModel` answers. Imports no torch."""

from __future__ import annotations

from huayu.chat.conversation import Conversation, Picture, Turn
from huayu.chat.loading import load_chat
from huayu.chat.model import ChatModel, ChatStream
from huayu.chat.options import ChatOptions
from huayu.chat.run import ChatReply

__all__ = ["ChatModel", "ChatOptions", "ChatReply", "ChatStream", "Conversation", "Picture", "Turn", "load_chat"]
