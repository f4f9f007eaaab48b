"""Half precision on the CPU: near fp32, finite, and rounded where the published fp16 models round."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.testing import assert_close

from huayu.models.cpm_bee.embedding import inverse_frequencies, rotate_by_subscript
from tests.models import tiny

HALF = [torch.bfloat16, torch.float16]
NEAR = {torch.bfloat16: 0.15, torch.float16: 0.02}


@pytest.fixture(scope="module", params=HALF, ids=str)
def half(request, chat):
    return copy.deepcopy(chat).to(request.param)


@torch.no_grad()
def test_forward_is_near_fp32(chat, half, batch):
    exact, out = chat(**batch), half(**batch)
    assert out.logits.dtype == half.dtype
    words = batch["request_vocab"][..., 0] >= 0
    real = torch.cat([torch.ones(3, len(tiny.LINES), dtype=torch.bool), words], 1)[:, None].expand_as(exact.logits)
    valid = (batch["attention_mask"] == 1)[..., None].expand_as(real)
    assert out.logits.isfinite().all()
    expected = exact.logits[real & valid]
    difference = (out.logits.float()[real & valid] - expected).abs()
    assert 0 < difference.max() < 8 * NEAR[half.dtype] * expected.std()
    assert difference.square().mean().sqrt() < NEAR[half.dtype] * expected.std()


@torch.no_grad()
def test_pictures_are_near_fp32(chat, half):
    pixels = tiny.pictures(3)
    exact, out = chat.get_image_features(pixels), half.get_image_features(pixels)
    assert out.dtype == half.dtype
    assert_close(out.float(), exact, atol=NEAR[half.dtype] * exact.std().item(), rtol=0)


@torch.no_grad()
def test_padding_stays_finite(half, batch):
    states = half(**batch, output_hidden_states=True).hidden_states
    assert all(state.isfinite().all() for state in states)


def test_generate(half, batch):
    settings = {"max_new_tokens": 6, "eos_token_id": None, "do_sample": False}
    with_cache = half.generate(**batch, **settings, output_logits=True, return_dict_in_generate=True)
    answer = with_cache.sequences[:, batch["input_ids"].shape[1] :]
    whole = half(**tiny.grown(batch, answer)).logits[:, -7:-1].float()
    assert_close(torch.stack(with_cache.logits, 1).float(), whole, atol=NEAR[half.dtype] * 3, rtol=0.05)
    for changes in ({"num_beams": 2}, {"do_sample": True, "temperature": 0.5}):
        assert half.generate(**batch, **{**settings, **changes}).shape == with_cache.sequences.shape


def test_the_loss_is_taken_in_fp32(half, batch):
    labels = torch.full_like(batch["input_ids"], -100)
    labels[:, -1] = 20
    loss = half(**batch, labels=labels).loss
    assert loss.dtype == torch.float32
    assert_close(half(**batch, labels=labels, loss_only=True).loss, loss, atol=NEAR[half.dtype], rtol=0)


def test_autocast(chat, batch):
    """Products in bfloat16; what the layers add up stays in fp32."""
    labels = torch.full_like(batch["input_ids"], -100)
    labels[:, -1] = 20
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = chat(**batch, labels=labels, output_hidden_states=True)
    assert {state.dtype for state in mixed.hidden_states} == {torch.float32}
    assert_close(mixed.loss, chat(**batch, labels=labels).loss, atol=NEAR[torch.bfloat16], rtol=0)


@pytest.mark.parametrize("dtype", [*HALF, torch.float32], ids=str)
def test_angles_are_rounded_to_the_dtype_of_the_model(dtype):
    """Source: spec viscpm §1.3: frequency, angle, cosine and sine each in that dtype."""
    generator = torch.Generator().manual_seed(0)
    embeds = torch.randn(21, 64, generator=generator).to(dtype)
    rotated = rotate_by_subscript(embeds, torch.arange(21))
    exact = rotate_by_subscript(embeds.double(), torch.arange(21)).float()
    assert rotated.dtype == dtype
    for sub in (0, 1, 2, 20):
        for i in range(32):
            frequency = torch.tensor(10000.0 ** (-2 * i / 64)).to(dtype)
            angle = torch.tensor(16.0 * sub).to(dtype) * frequency
            a, b = embeds[sub, i], embeds[sub, i + 32]
            pair = torch.stack([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()])
            assert_close(rotated[sub, i::32], pair, atol=2e-5, rtol=1e-3 if dtype != torch.float32 else 1e-4)
    assert rotated[0].equal(embeds[0])
    if dtype != torch.float32:
        assert (rotated.float() - exact).abs().max() > 0.05  # rounding is part of what the model learnt


def test_frequencies_are_computed_in_fp32_and_then_rounded():
    exact = torch.tensor([10000.0 ** (-i / 4096) for i in range(0, 4096, 2)])
    single = inverse_frequencies(4096, torch.float32)
    assert_close(single, exact, rtol=2e-6, atol=0)
    assert inverse_frequencies(4096, torch.float16).equal(single.half())


def test_words_without_a_row_are_never_drawn_in_fp16(chat, batch):
    """Dividing the lowest fp16 number by a temperature is -inf: a probability of 0 and not NaN."""
    model = copy.deepcopy(chat).half()
    logits = model(**batch, logits_to_keep=1).logits[:, 0] / 0.5
    odds = logits.softmax(-1)
    assert odds.isfinite().all()
    assert (odds[0, len(tiny.LINES) :] == 0).all()
