"""One answer however it is computed: with and without a cache, in chunks, batched, padded, streamed."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close
from transformers import DynamicCache

from huayu.generation.cache import GrowingCache
from huayu.generation.streaming import stream_ids
from huayu.models.cpm_bee.packing import collate, pack
from tests.models import tiny

CLOSE = {"atol": 2e-5, "rtol": 2e-5}
# Answers to feed: ordinary tokens, a word shared with <unk> (1) and words of the request's own (from 29 on).
V = len(tiny.LINES)
ANSWERS = torch.tensor([[16, 22, 17, 23, 16, 24], [V, 1, V + 1, 22, V, V], [1, 22, V, 1, V, 25]])


@pytest.fixture(scope="module", autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def whole(chat, batch):
    """Logits (3, 7, V + E) of the answers' tokens from one pass without a cache."""
    return chat(**tiny.grown(batch, ANSWERS), use_cache=False).logits[:, -7:]


@pytest.mark.parametrize("make_cache", [DynamicCache, GrowingCache])
@pytest.mark.parametrize("sizes", [[1] * 6, [6], [2, 1, 3]], ids=str)
def test_cached_in_chunks_is_whole(chat, batch, whole, make_cache, sizes):
    inputs, prompt = tiny.grown(batch, ANSWERS), batch["input_ids"].shape[1]
    out = chat(**batch, past_key_values=make_cache(), use_cache=True, logits_to_keep=1)
    logits, start = [out.logits], prompt
    for size in sizes:
        new = tiny.later(inputs, start, start + size)
        out = chat(**new, past_key_values=out.past_key_values, use_cache=True)
        logits.append(out.logits)
        start += size
    assert_close(torch.cat(logits, 1), whole, **CLOSE)


def test_a_batch_is_its_rows(chat, singles, whole):
    for row, single in enumerate(singles):
        logits = chat(**tiny.grown(single, ANSWERS[row : row + 1].clamp(max=V + 1))).logits[:, -7:]
        assert_close(whole[row : row + 1, :, : logits.shape[-1]], logits, **CLOSE)


def test_the_rows_differ_by_their_pictures_and_words(chat, batch, whole):
    """Else the equalities above would say little."""
    for row, picture in ((1, 0), (2, 0), (2, 1)):
        pictures = batch["pixel_values"].clone()
        pictures[row, picture] *= -1
        other = chat(**tiny.grown({**batch, "pixel_values": pictures}, ANSWERS)).logits[:, -7:]
        change = (other - whole).abs().amax((1, 2))
        assert change[row] > 0.02
        assert change[torch.arange(3) != row].max() < 1e-5
    plain = {**batch, "token_subscripts": torch.zeros_like(batch["token_subscripts"])}
    other = chat(**tiny.grown(plain, ANSWERS)).logits[:, -7:]
    assert_close(other[0], whole[0], **CLOSE)
    assert (other[1:] - whole[1:]).abs().amax(-1).min() > 0.02


@pytest.fixture(scope="module")
def items(processor):
    """The prompts with answers, as for training."""
    answers = ["ab", "龘猫齉齉", "狗齉"]
    pairs = zip(tiny.ROWS, answers, strict=True)
    return [processor.pack_chat(*row, answer, for_generation=False) for row, answer in pairs]


def test_padded_right_is_unpadded(chat, processor, items):
    features = torch.randn(3, 2, tiny.QUERIES, 32, generator=torch.Generator().manual_seed(1))
    inputs = processor.collate(items, padding="right")
    padded = chat(**inputs, image_embeds=features, output_hidden_states=True)
    for row, item in enumerate(items):
        alone = processor.collate([item], padding="right")
        pictures = {"image_embeds": features[row : row + 1]} if item.image_bounds else {}
        out = chat(**alone, **pictures, output_hidden_states=True)
        length = len(item.input_ids)
        for whole, single in zip(padded.hidden_states, out.hidden_states, strict=True):
            assert_close(whole[row : row + 1, :length], single, **CLOSE)
        assert_close(padded.logits[row : row + 1, :length, : out.logits.shape[-1]], out.logits, **CLOSE)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_passes_through_the_feed_forward_alone(language, vocabulary, side):
    packed = [pack({"question": text, "<ans>": "a"}, vocabulary) for text in ("猫", "a龘" * 5, "b")]
    inputs = collate(packed, vocabulary, padding=side)
    out = language.model(**inputs, output_hidden_states=True)
    assert all(state.isfinite().all() for state in out.hidden_states)
    x = language.model.embed_tokens(torch.zeros(1, dtype=torch.long))
    for layer, states in zip(language.model.layers, out.hidden_states[1:], strict=True):
        x = x / 1.05
        x = (x + layer.mlp(layer.mlp_norm(x))) / 1.05
        pads = states[inputs["attention_mask"] == 0]
        assert len(pads) > 10
        assert_close(pads, x.expand_as(pads), **CLOSE)


def test_a_batch_of_padding_alone_is_finite(language):
    ids = torch.zeros(2, 5, dtype=torch.long)
    out = language(ids, attention_mask=torch.zeros_like(ids))
    assert out.logits.isfinite().all()
    assert_close(out.logits, out.logits[:1, :1].expand_as(out.logits))


@pytest.mark.parametrize("row", range(3))
def test_streamed_is_whole(chat, singles, row):
    settings = {"max_new_tokens": 8, "eos_token_id": None, "do_sample": False}
    whole = chat.generate(**singles[row], **settings)[0, singles[row]["input_ids"].shape[1] :]
    del settings["do_sample"]
    assert [step[0] for step in stream_ids(chat, singles[row], **settings)] == whole.tolist()
    assert len(whole) == 8


def test_metadata_may_be_left_out(language):
    """Then it is a causal model over one segment."""
    ids = torch.tensor([[6, 20, 21, 22], [6, 24, 25, 26]])
    zeros, ones = torch.zeros_like(ids), torch.ones_like(ids)
    full = language(
        ids,
        attention_mask=ones,
        is_context=zeros,
        sample_ids=zeros,
        span_ids=zeros,
        segment_ids=zeros,
        num_segments=ones,
        segment_rel_offset=zeros,
        segment_rel=torch.zeros(2, 1, dtype=torch.long),
        position_ids=torch.arange(4).expand(2, -1),
        token_subscripts=zeros,
        request_vocab=torch.zeros(2, 0, 2, dtype=torch.long),
    )
    assert_close(language(ids).logits, full.logits, **CLOSE)
    assert_close(language(ids[:, :3]).logits, full.logits[:, :3], **CLOSE)
    assert_close(language(ids, position_ids=torch.arange(100, 104).expand(2, -1)).logits, full.logits, **CLOSE)


def test_what_was_not_asked_for_is_not_computed(chat, batch, whole):
    out = chat(**tiny.grown(batch, ANSWERS), use_cache=False, logits_to_keep=1)
    assert_close(out.logits, whole[:, -1:], **CLOSE)
    assert out.past_key_values is None
    assert out.hidden_states is None
    assert chat(**batch, logits_to_keep=torch.tensor([0, 5])).logits.shape[1] == 2
