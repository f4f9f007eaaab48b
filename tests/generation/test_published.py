"""The published search on a real model: one prompt row for all beams, a cache, batches with left padding."""

from __future__ import annotations

import threading

import pytest
import torch

from huayu.errors import Cancelled
from huayu.generation.beam import BeamSearch
from huayu.generation.options import PUBLISHED_CHAT, BeamOptions
from huayu.generation.published import beam_search, published_generate, sentence_of, special_ids
from huayu.models.cpm_bee.packing import collate, pack
from huayu.models.viscpm_chat.checkpoint import PUBLISHED_GENERATION
from tests.generation import tiny

MODEL, VOCABULARY = tiny.model(seed=7).double(), tiny.vocabulary()
SPECIAL = special_ids(MODEL.config)
with torch.no_grad():  # so that answers end before they are cut off
    MODEL.model.embed_tokens.weight[SPECIAL.eos] *= 2
TEXTS = [{"question": "a猫是b龘靐？"}, {"context": "狗龘", "question": "c靐a龘"}, {"question": "？"}]
PACKED = [pack({**texts, "<ans>": ""}, VOCABULARY, for_generation=True) for texts in TEXTS]
OPTIONS = BeamOptions(3, 10, repetition_penalty=1.3, length_penalty=1.5, temperature=0.9)


def answer(packed, options=OPTIONS, **more):
    inputs = collate(packed, VOCABULARY, padding="left")
    *_, last = beam_search(MODEL, inputs, packed, options, vocabulary=VOCABULARY, **more)
    return last


class WholeForward:
    """A stepper without any cache: every row reads its prompt and all it was fed again, all at once."""

    device = torch.device("cpu")

    def __init__(self, packed, beams):
        self.prompt = collate([packed], VOCABULARY)
        self.rows = [() for _ in range(beams)]

    @torch.inference_mode()
    def step(self, token_ids, segment_ids, position_ids):
        fed = list(zip(token_ids.tolist(), segment_ids.tolist(), position_ids.tolist(), strict=True))
        self.rows = [(*row, one) for row, one in zip(self.rows, fed, strict=True)]
        return torch.cat([self.logits(row) for row in self.rows])

    def logits(self, row):
        tokens, segments, positions = zip(*row, strict=True)
        new = {"input_ids": tokens, "segment_ids": segments, "position_ids": positions}
        prompt = {"token_subscripts": torch.zeros_like(self.prompt["input_ids"]), **self.prompt}
        last = {"attention_mask": 1, "is_context": 0, "num_segments": int(prompt["num_segments"][0, -1])}
        inputs = {
            name: torch.cat([value, torch.tensor([new.get(name, [last.get(name, 0)] * len(row))])], 1)
            for name, value in prompt.items()
            if name not in ("segment_rel", "request_vocab")
        }
        constant = {name: prompt[name] for name in ("segment_rel", "request_vocab") if name in prompt}
        return MODEL(**inputs, **constant, use_cache=False).logits[:, -1]

    def reorder(self, parents):
        self.rows = [self.rows[parent] for parent in parents.tolist()]


@pytest.mark.parametrize("number", range(len(TEXTS)))
def test_cache_equals_no_cache(number):
    item = PACKED[number]
    search = BeamSearch(WholeForward(item, 3), [sentence_of(item, SPECIAL.unk)], SPECIAL, OPTIONS)
    *_, plain = search
    cached = answer([item])
    ours, theirs = (progress.results[0].hypotheses for progress in (cached, plain))
    assert [hypothesis.path for hypothesis in ours] == [hypothesis.path for hypothesis in theirs]
    assert [h.score for h in ours] == pytest.approx([h.score for h in theirs], rel=1e-9)
    assert cached.num_steps == plain.num_steps


def test_a_left_padded_batch_answers_as_its_rows_alone():
    together = answer(PACKED)
    for item, result in zip(PACKED, together.results, strict=True):
        alone = answer([item]).results[0]
        assert result.text == alone.text
        assert [h.path for h in result.hypotheses] == [h.path for h in alone.hypotheses]
        assert [h.score for h in result.hypotheses] == pytest.approx([h.score for h in alone.hypotheses], rel=1e-9)


def test_words_of_the_request_come_back_as_their_text():
    table = PACKED[0].answer_words
    assert set(table.values()) == {"龘靐"}
    item = pack({"question": "龘a靐", "<ans>": ""}, VOCABULARY, for_generation=True)
    assert item.answer_words == {SPECIAL.unk: "龘", len(VOCABULARY): "靐"}
    sentence = sentence_of(item, SPECIAL.unk)
    assert (sentence.allow_unk, sentence.words) == (True, (SPECIAL.unk,))


def test_streamed_texts_only_grow_into_the_answer():
    inputs = collate(PACKED, VOCABULARY, padding="left")
    seen = [""] * len(PACKED)
    for progress in beam_search(MODEL, inputs, PACKED, OPTIONS, vocabulary=VOCABULARY):
        assert all(text.startswith(before) for text, before in zip(progress.texts, seen, strict=True))
        seen = progress.texts
    assert seen == tuple(result.text for result in progress.results)


def test_several_answers_are_written_one_after_the_other():
    item = pack({"question": "a", "<ans>": {"b": "", "c": ""}}, VOCABULARY, for_generation=True)
    result = answer([item], BeamOptions(3, 40)).results[0]
    numbers = list(result.answer_numbers)
    assert numbers == sorted(numbers)
    assert set(numbers) == {1, 2}


def test_as_custom_generate_it_gives_the_same_tokens():
    inputs = collate(PACKED, VOCABULARY, padding="left", start_answer=True)
    out = MODEL.generate(
        **inputs, custom_generate=published_generate, packed=PACKED, options=OPTIONS, max_new_tokens=10
    )
    assert torch.equal(out[:, : inputs["input_ids"].shape[1]], inputs["input_ids"])
    for row, result in zip(out[:, inputs["input_ids"].shape[1] :].tolist(), answer(PACKED).results, strict=True):
        padding = [SPECIAL.pad] * (len(row) - len(result.token_ids))
        assert row == [*result.token_ids, *padding]


def test_custom_generate_needs_the_prompts():
    inputs = collate(PACKED, VOCABULARY, padding="left", start_answer=True)
    with pytest.raises(ValueError, match="packed"):
        MODEL.generate(**inputs, custom_generate=published_generate, max_new_tokens=10)


def test_cancel():
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        answer(PACKED, cancel=cancel)


def test_published_settings_are_one_and_the_same():
    assert BeamOptions(**PUBLISHED_GENERATION) == PUBLISHED_CHAT
