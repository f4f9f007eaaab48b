"""The library's beams as a stream: what was shown as sure is what the answer begins with, early endings included."""

from __future__ import annotations

import threading

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from huayu.errors import Cancelled
from huayu.generation.library_beams import agreed, stream_beams

EOS = 2
PROMPTS = torch.tensor([[1, 4, 5], [1, 6, 7]])


def model(seed: int) -> LlamaForCausalLM:
    """So few words that endings are frequent."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=10, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        pad_token_id=0, bos_token_id=1, eos_token_id=EOS, initializer_range=0.6,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def inputs() -> dict[str, torch.Tensor]:
    return {"input_ids": PROMPTS, "attention_mask": torch.ones_like(PROMPTS)}


@pytest.mark.parametrize("length_penalty", [-2.0, 1.0])
def test_what_is_sure_stays(length_penalty: float) -> None:
    shown_early = ended_early = 0
    for seed in range(12):
        settings = {"num_beams": 3, "max_new_tokens": 10, "length_penalty": length_penalty}
        steps = list(stream_beams(model(seed), inputs(), eos={EOS}, **settings))
        answers, ended = steps[-1]
        for sure, last in steps[:-1]:
            assert last is None
            for row, tokens in enumerate(sure):
                assert answers[row][: len(tokens)] == tokens
                shown_early += len(tokens)
        whole = model(seed).generate(**inputs(), do_sample=False, **settings)[:, 3:].tolist()
        assert [ids[: ids.index(EOS)] if EOS in ids else ids for ids in whole] == answers
        assert ended == [EOS in ids for ids in whole]
        ended_early += sum(len(ids) < 9 for ids in answers)
    assert shown_early
    assert ended_early


def test_cancel_and_errors_of_the_thread() -> None:
    cancel = threading.Event()
    steps = stream_beams(
        model(0), inputs(), num_beams=2, eos={EOS}, max_new_tokens=500, min_new_tokens=499, cancel=cancel
    )
    next(steps)
    cancel.set()
    with pytest.raises(Cancelled):
        list(steps)
    with pytest.raises(ValueError, match="no_such_thing"):
        list(stream_beams(model(0), inputs(), num_beams=2, eos={EOS}, no_such_thing=1))


def test_agreed() -> None:
    assert agreed([[1, 2, 3], [1, 2], [1, 2, 9]]) == [1, 2]
    assert agreed([[1, 2], [3]]) == []
    assert agreed([[4]]) == [4]
