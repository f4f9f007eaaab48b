"""The growing cache gives the library's numbers without its copies."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from huayu.generation import cache as cache_module
from huayu.generation.cache import GrowingCache, GrowingLayer
from huayu.models.cpm_bee.packing import collate, pack
from tests.generation import tiny


def states(tokens, seed, rows=3):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(rows, 2, tokens, 4, generator=generator) for _ in range(2))


def filled(cache, lengths=(5, 1, 1, 70, 1)):
    for step, tokens in enumerate(lengths):
        for layer in range(2):
            returned = cache.update(*states(tokens, 10 * step + layer), layer)
    return cache, returned


def held(cache):
    return [(layer.keys, layer.values) for layer in cache.layers]


def assert_equal(left, right):
    for pair, other in zip(held(left), held(right), strict=True):
        for ours, theirs in zip(pair, other, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert left.get_seq_length() == right.get_seq_length()
    assert left.get_mask_sizes(3, 0) == right.get_mask_sizes(3, 0)


@pytest.fixture
def both():
    return filled(GrowingCache())[0], filled(DynamicCache())[0]


def test_update_returns_everything_held(both):
    assert_equal(*both)
    _, returned = filled(GrowingCache())
    assert returned[0].shape[-2] == 78


@pytest.mark.parametrize(
    "change",
    [
        lambda cache: cache.reorder_cache(torch.tensor([2, 1, 1])),
        lambda cache: cache.reorder_cache(torch.tensor([1, 2, 0])),
        lambda cache: cache.crop(-7),
        lambda cache: cache.batch_repeat_interleave(2),
        lambda cache: cache.batch_select_indices(torch.tensor([2, 0])),
        lambda cache: cache.reset(),
    ],
    ids=["reorder", "rotate", "crop", "repeat", "select", "reset"],
)
def test_every_change_equals_the_librarys(both, change):
    rows = {"value": 3}
    for cache in both:
        change(cache)
        rows["value"] = cache.layers[0].keys.shape[0] if cache.layers[0].keys is not None else 3
    if both[1].get_seq_length():
        assert_equal(*both)
    for cache in both:
        for layer in range(2):
            cache.update(*states(1, 99, rows["value"]), layer)
    assert_equal(*both)


def test_a_step_copies_nothing_while_there_is_room():
    cache = GrowingCache()
    cache.update(*states(5, 0), 0)
    before = cache.layers[0].keys.data_ptr()
    for step in range(cache_module.ROOM):
        cache.update(*states(1, step), 0)
    assert cache.layers[0].keys.data_ptr() == before
    cache.update(*states(1, 99), 0)
    assert cache.layers[0].keys.data_ptr() != before
    assert cache.layers[0]._key_buffer.shape[-2] >= 2 * (5 + cache_module.ROOM)


def test_shared_tokens_are_not_touched_by_reordering():
    cache, _ = filled(GrowingCache(), (5, 2))
    cache.shared_tokens = 5
    before = cache.layers[0].keys.clone()
    cache.reorder_cache(torch.tensor([1, 1, 0]))
    torch.testing.assert_close(cache.layers[0].keys[:, :, :5], before[:, :, :5])
    torch.testing.assert_close(cache.layers[0].keys[:, :, 5:], before[torch.tensor([1, 1, 0])][:, :, 5:])


def test_crop_refuses_a_positive_number():
    layer = GrowingLayer()
    layer.update(*states(3, 0))
    with pytest.raises(ValueError, match="negative"):
        layer.crop(2)


@pytest.mark.parametrize("settings", [{"num_beams": 1}, {"num_beams": 3}], ids=["greedy", "beam"])
def test_generate_writes_the_same_with_either_cache(settings):
    model, vocabulary = tiny.model(), tiny.vocabulary()
    packed = pack({"question": "a猫是b？", "<ans>": ""}, vocabulary, for_generation=True)
    inputs = collate([packed], vocabulary, padding="left", start_answer=True)
    outputs = [
        model.generate(
            **inputs,
            past_key_values=cache,
            max_new_tokens=80,
            eos_token_id=None,
            do_sample=False,
            output_scores=True,
            return_dict_in_generate=True,
            **settings,
        )
        for cache in (GrowingCache(), DynamicCache())
    ]
    assert torch.equal(outputs[0].sequences, outputs[1].sequences)
    for ours, theirs in zip(outputs[0].scores, outputs[1].scores, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
