"""Streams: the same text as ``generate``, stopped anywhere, drawn without touching the global random state."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from huayu.errors import Cancelled
from huayu.generation.sampling import Draw, Sampling
from huayu.generation.streaming import _sure_length, stream_generate, stream_ids
from huayu.models.cpm_bee.packing import collate, pack
from tests.generation import tiny

MODEL, VOCABULARY = tiny.model(), tiny.vocabulary()
PACKED = pack({"question": "a猫是b？", "<ans>": ""}, VOCABULARY, for_generation=True)
INPUTS = collate([PACKED], VOCABULARY, padding="left", start_answer=True)
LONG = {"max_new_tokens": 12, "eos_token_id": None}


def decode(ids):
    return VOCABULARY.decode(ids)


def whole(**changes):
    out = MODEL.generate(**INPUTS, **{**LONG, "do_sample": False, **changes})
    return out[0, INPUTS["input_ids"].shape[1] :].tolist()


def test_streamed_ids_are_those_of_generate():
    assert [step[0] for step in stream_ids(MODEL, INPUTS, **LONG)] == whole()


def test_streamed_text_is_the_decoded_whole():
    pieces = list(stream_generate(MODEL, INPUTS, decode=decode, **LONG))
    assert "".join(pieces) == decode(whole())
    assert len(pieces) > 1


def test_rows_of_a_batch_stream_together():
    packed = [PACKED, pack({"question": "狗", "<ans>": ""}, VOCABULARY, for_generation=True)]
    inputs = collate(packed, VOCABULARY, padding="left", start_answer=True)
    steps = list(stream_ids(MODEL, inputs, **LONG))
    assert [step[0] for step in steps] == whole()
    assert {len(step) for step in steps} == {2}


def test_eos_ends_the_text_and_is_not_shown():
    ids = whole()
    at = next(i for i in range(1, len(ids)) if ids[i] not in ids[:i])
    pieces = stream_generate(MODEL, INPUTS, decode=decode, max_new_tokens=12, eos_token_id=ids[at])
    assert "".join(pieces) == decode(ids[:at])


def test_a_stop_string_ends_the_answer_and_is_not_shown():
    text = decode(whole())
    stop = text[3:6]
    pieces = list(stream_generate(MODEL, INPUTS, decode=decode, stop=["never there", stop], **LONG))
    assert "".join(pieces) == text[: text.index(stop)]


@settings(max_examples=200, deadline=None)
@given(st.text("abc", max_size=12), st.lists(st.text("abc", min_size=1, max_size=3), max_size=3))
def test_what_is_shown_never_depends_on_the_pieces(text, stop):
    shown, ended = "", False
    for size in range(len(text) + 1):
        end, ended = _sure_length(text[:size], stop)
        assert text[:end].startswith(shown)
        shown = text[:end]
        if ended:
            break
    cuts = [(text.find(word) + len(word), text.find(word)) for word in stop if word in text]
    assert ended == bool(cuts)
    assert shown == text[: min(cuts)[1]] if cuts else text.startswith(shown)


def test_half_characters_are_held_back_until_they_are_whole():
    data = "猫a".encode()
    pieces = stream_generate(
        MODEL, INPUTS, decode=lambda ids: data[: len(ids)].decode(errors="replace"), max_new_tokens=4, eos_token_id=None
    )
    assert list(pieces) == ["猫", "a"]


def test_cancel_is_seen_at_the_next_step():
    cancel = threading.Event()
    steps = stream_ids(MODEL, INPUTS, cancel=cancel, max_new_tokens=500, eos_token_id=None)
    next(steps)
    cancel.set()
    with pytest.raises(Cancelled):
        next(steps)
    assert not any(thread.name == "huayu-generate" for thread in threading.enumerate())


def test_closing_stops_the_thread():
    steps = stream_ids(MODEL, INPUTS, max_new_tokens=500, eos_token_id=None)
    next(steps)
    steps.close()
    assert not any(thread.name == "huayu-generate" for thread in threading.enumerate())


def test_errors_of_the_thread_reach_the_caller():
    with pytest.raises(ValueError, match="metadata must cover"):
        list(stream_ids(MODEL, {**INPUTS, "segment_ids": INPUTS["segment_ids"][:, 1:]}, **LONG))


@pytest.mark.parametrize("taken", ["do_sample", "num_beams", "streamer"])
def test_settings_that_are_spoken_for_are_refused(taken):
    with pytest.raises(TypeError, match=taken):
        next(stream_ids(MODEL, INPUTS, **{taken: None}))


def draws(seed, **changes):
    sampling = Sampling(temperature=1.5, seed=seed, **changes)
    return [step[0] for step in stream_ids(MODEL, INPUTS, sampling=sampling, max_new_tokens=8, eos_token_id=None)]


def test_a_seed_repeats_its_draws_and_the_global_state_is_left_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, second, other = draws(1), draws(1), draws(2)
    draws(None)
    assert first == second != other
    assert torch.equal(before, torch.random.get_rng_state())


def test_draws_follow_the_probabilities():
    scores = torch.log(torch.tensor([[0.7, 0.0, 0.2, 0.1]])).repeat(4000, 1)
    drawn = Draw(seed=0)(torch.empty(4000, 1), scores).argmax(dim=1)
    share = torch.bincount(drawn, minlength=4) / 4000
    torch.testing.assert_close(share, torch.tensor([0.7, 0.0, 0.2, 0.1]), rtol=0, atol=0.03)
    assert share[1] == 0


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}])
def test_the_narrowest_sampling_is_greedy(narrow):
    assert draws(5, **narrow) == whole()[:8]


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"top_k": -1}, {"top_p": 0.0}, {"min_p": 2.0}])
def test_sampling_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**wrong)


def test_a_cache_of_the_callers_is_used():
    cache = DynamicCache()
    ids = [step[0] for step in stream_ids(MODEL, INPUTS, past_key_values=cache, **LONG)]
    assert ids == whole()
    assert cache.get_seq_length() == INPUTS["input_ids"].shape[1] + len(ids) - 1
