"""The published search on a toy language: against a second implementation, and quirk by quirk."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from huayu.errors import Cancelled
from huayu.generation.beam import BeamSearch
from huayu.generation.options import BeamOptions
from huayu.generation.records import Sentence, SpecialIds
from tests.generation import reference
from tests.generation.toy import VOCABULARY, FixedStepper, ToyStepper

SPECIAL = SpecialIds(vocab_size=VOCABULARY)
ONE_ANSWER = Sentence(answers=((8, 1),))
EOS, BOS, UNK = SPECIAL.eos, SPECIAL.bos, SPECIAL.unk

some_options = st.builds(
    BeamOptions,
    num_beams=st.integers(1, 4),
    max_new_tokens=st.integers(0, 8),
    repetition_penalty=st.sampled_from([1.0, 1.1, 2.0]),
    repetition_window=st.sampled_from([None, 1, 3]),
    length_penalty=st.sampled_from([-1.0, 0.0, 1.0, 3.0]),
    temperature=st.sampled_from([0.7, 1.0, 1.5]),
)
some_sentences = st.builds(
    lambda answers, words, allow_unk: Sentence(tuple((8 + n, n + 1) for n in range(answers)), words, allow_unk),
    st.integers(1, 3),
    st.sampled_from([(), (1,), (1, 2)]),
    st.booleans(),
)
some_bonus = st.fixed_dictionaries({EOS: st.sampled_from([-1.0, 1.0, 3.0])})


def run(stepper, sentences, options, cancel=None):
    return list(BeamSearch(stepper, sentences, SPECIAL, options, cancel))


def plain(result):
    return [(h.score, list(h.path)) for h in result.hypotheses]


@settings(max_examples=150, deadline=None)
@given(some_options, some_sentences, some_bonus, st.integers(0, 10**6))
def test_equals_a_second_implementation(options, sentence, bonus, seed):
    stepper = ToyStepper([seed], options.num_beams, len(sentence.words), bonus, torch.float64)
    *_, last = run(stepper, [sentence], options)
    expected, steps = reference.search(
        lambda fed: stepper.logits((seed, *fed)),
        sentence.answers,
        lambda token: token if token < VOCABULARY else sentence.words[token - VOCABULARY],
        SPECIAL,
        options,
        sentence.allow_unk,
    )
    assert [path for _, path in plain(last.results[0])] == [path for _, path in expected]
    assert [score for score, _ in plain(last.results[0])] == pytest.approx([score for score, _ in expected], rel=1e-9)
    assert last.num_steps == steps


@settings(max_examples=100, deadline=None)
@given(some_options, some_sentences, some_bonus, st.integers(0, 10**6))
def test_streamed_tokens_are_never_taken_back(options, sentence, bonus, seed):
    stepper = ToyStepper([seed], options.num_beams, len(sentence.words), bonus)
    streamed = run(stepper, [sentence], options)
    answer = streamed[-1].results[0].token_ids
    seen = ()
    for progress in streamed:
        stable = progress.stable[0]
        assert stable[: len(seen)] == seen
        assert answer[: len(stable)] == stable
        seen = stable
    assert seen == answer


@settings(max_examples=60, deadline=None)
@given(some_options, st.lists(st.tuples(some_sentences, st.integers(0, 10**6)), min_size=2, max_size=3), some_bonus)
def test_a_batch_answers_as_its_sentences_alone(options, batch, bonus):
    words = max(len(sentence.words) for sentence, _ in batch)
    together = ToyStepper([seed for _, seed in batch], options.num_beams, words, bonus, torch.float64)
    *_, last = run(together, [sentence for sentence, _ in batch], options)
    for (sentence, seed), result in zip(batch, last.results, strict=True):
        alone = ToyStepper([seed], options.num_beams, words, bonus, torch.float64)
        expected = plain(run(alone, [sentence], options)[-1].results[0])
        assert [path for _, path in plain(result)] == [path for _, path in expected]
        assert [score for score, _ in plain(result)] == pytest.approx([score for score, _ in expected], rel=1e-9)


def test_something_is_streamed_before_the_end():
    values = [0.0] * VOCABULARY
    values[3], values[EOS] = 9.0, -50.0
    streamed = run(FixedStepper(values, 3), [ONE_ANSWER], BeamOptions(max_new_tokens=30))
    assert any(progress.stable[0] for progress in streamed[:-2])


def test_the_last_step_closes_every_answer_after_two_more_tokens_than_asked():
    values = [0.0] * VOCABULARY
    values[3], values[EOS] = 9.0, -9000.0
    stepper = FixedStepper(values, 2)
    result = run(stepper, [ONE_ANSWER], BeamOptions(num_beams=2, max_new_tokens=4))[-1].results[0]
    assert result.token_ids == (3,) * 6
    assert len(stepper.calls) == 6


@pytest.mark.parametrize(("eos_logit", "closes"), [(6.0, True), (4.0, False)])
def test_eos_closes_an_answer_only_above_the_last_live_beam_and_the_search_goes_on(eos_logit, closes):
    values = [-50.0] * VOCABULARY
    values[3], values[EOS] = 5.0, eos_logit
    search = BeamSearch(FixedStepper(values, 1), [ONE_ANSWER], SPECIAL, BeamOptions(1, 3, length_penalty=3.0))
    next(iter(search))
    assert [hypothesis.token_ids for hypothesis in search.tracks[0].closed.kept] == [(EOS,)] * closes
    assert search.tracks[0].beams[0].token == 3


@pytest.mark.parametrize("allow_unk", [False, True])
def test_unk_is_written_only_when_the_prompt_held_an_unknown_text(allow_unk):
    values = [0.0] * VOCABULARY
    values[UNK], values[EOS] = 9.0, 5.0
    sentence = Sentence(((8, 1),), allow_unk=allow_unk)
    result = run(FixedStepper(values, 2), [sentence], BeamOptions(num_beams=2, max_new_tokens=3))[-1].results[0]
    assert any(UNK in hypothesis.token_ids for hypothesis in result.hypotheses) is allow_unk


def test_bos_is_in_the_repetition_set():
    values = [-9.0] * VOCABULARY
    values[BOS], values[3] = 4.0, 3.0
    first = run(FixedStepper(values, 1), [ONE_ANSWER], BeamOptions(1, 0, repetition_penalty=1.0))[-1].results[0]
    second = run(FixedStepper(values, 1), [ONE_ANSWER], BeamOptions(1, 0, repetition_penalty=2.0))[-1].results[0]
    assert (first.token_ids[0], second.token_ids[0]) == (BOS, 3)


def test_a_request_word_is_penalised_through_its_base_id():
    word = VOCABULARY
    values = [-9.0] * VOCABULARY + [5.0]
    values[2] = 4.9
    sentence = Sentence(((8, 1),), words=(2,))
    options = BeamOptions(1, 1, repetition_penalty=2.0)
    result = run(FixedStepper(values, 1), [sentence], options)[-1].results[0]
    assert result.token_ids == (word, word, word)


def test_the_window_forgets_old_repetitions():
    values = [-9.0] * VOCABULARY
    values[3], values[4], values[5] = 5.0, 4.0, 3.0
    whole = run(FixedStepper(values, 1), [ONE_ANSWER], BeamOptions(1, 2, 1.5, None))[-1].results[0]
    short = run(FixedStepper(values, 1), [ONE_ANSWER], BeamOptions(1, 2, 1.5, 1))[-1].results[0]
    assert whole.token_ids == (3, 4, 3, 3)
    assert short.token_ids == (3, 4, 3, 4)


def test_each_answer_starts_with_bos_at_position_0_of_its_own_segment():
    values = [-50.0] * VOCABULARY
    values[3], values[EOS] = 5.0, 5.5
    sentence = Sentence(((8, 1), (10, 2)))
    stepper = FixedStepper(values, 1)
    result = run(stepper, [sentence], BeamOptions(1, 6, length_penalty=-2.0))[-1].results[0]
    assert [call[0] for call in stepper.calls[:2]] == [(BOS, 8, 0), (BOS, 10, 0)]
    assert set(result.answer_numbers) <= {2}


def test_positions_count_the_tokens_of_the_answer():
    stepper = ToyStepper([5], 2, bonus={EOS: -9.0})
    run(stepper, [ONE_ANSWER], BeamOptions(2, 5))
    assert [{position for _, _, position in call} for call in stepper.calls] == [{n} for n in range(7)]


def test_idle_rows_feed_padding_once_all_is_done():
    values = [0.0] * VOCABULARY
    values[EOS] = 9.0
    stepper = FixedStepper(values, 2)
    *_, last = run(stepper, [ONE_ANSWER], BeamOptions(2, 30))
    assert stepper.calls[-1] == [(SPECIAL.pad, 0, 0)] * 2
    assert last.num_steps == len(stepper.calls) < 32


def test_cancel_stops_before_the_next_step():
    stepper, cancel = ToyStepper([1], 2, bonus={EOS: -9.0}), threading.Event()
    search = iter(BeamSearch(stepper, [ONE_ANSWER], SPECIAL, BeamOptions(2, 50), cancel))
    next(search)
    cancel.set()
    with pytest.raises(Cancelled):
        next(search)
    assert len(stepper.calls) == 1


def test_closing_the_iterator_stops_the_search():
    stepper = ToyStepper([1], 2, bonus={EOS: -9.0})
    search = iter(BeamSearch(stepper, [ONE_ANSWER], SPECIAL, BeamOptions(2, 50)))
    next(search)
    search.close()
    assert len(stepper.calls) == 1


def test_inference_mode_does_not_leak_into_the_caller():
    for _ in BeamSearch(ToyStepper([1], 2), [ONE_ANSWER], SPECIAL, BeamOptions(2, 2)):
        assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_beams": 0},
        {"max_new_tokens": -1},
        {"repetition_penalty": 0.0},
        {"repetition_window": 0},
        {"temperature": 0.0},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BeamOptions(**wrong)


def test_a_prompt_without_an_answer_is_refused():
    with pytest.raises(ValueError, match="answer"):
        Sentence(())
