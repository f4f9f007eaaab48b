"""Penalties by hand."""

from __future__ import annotations

import pytest
import torch

from huayu.chat import ChatModel
from huayu.errors import OptionError
from huayu.generation.penalties import Penalties


def test_what_was_written_counts_and_what_was_read_does_not() -> None:
    penalties, scores = Penalties(0.5, 0.25), torch.zeros(2, 4)
    assert penalties(torch.tensor([[0, 1], [3, 3]]), scores).tolist() == scores.tolist()
    later = penalties(torch.tensor([[0, 1, 2, 2, 0], [3, 3, 1, 2, 3]]), scores)
    assert later.tolist() == [[-0.75, 0, -1.25, 0], [0, -0.75, -0.75, -0.75]]


def test_an_answer_says_less_again(tiny_chat: ChatModel) -> None:
    def kinds(**options: float) -> float:
        """How many tokens of all are new ones, with random weights."""
        text = tiny_chat.ask(None, "你好", search="greedy", max_new_tokens=40, **options).text  # type: ignore[arg-type]
        return len(set(text)) / len(text)

    assert kinds(frequency_penalty=2, presence_penalty=2) > kinds() > kinds(frequency_penalty=-2, presence_penalty=-2)
    assert kinds(presence_penalty=0.0) == kinds()
    with pytest.raises(OptionError, match="presence_penalty"):
        tiny_chat.ask(None, "你好", search="beam", presence_penalty=1)
    with pytest.raises(OptionError, match="frequency_penalty"):
        kinds(frequency_penalty=2.5)
