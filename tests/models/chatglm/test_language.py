"""ChatGLM: one answer however it is computed, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModel, AutoModelForCausalLM, DynamicCache

import huayu.hf  # noqa: F401
from huayu.generation.cache import GrowingCache
from huayu.generation.streaming import stream_ids
from huayu.models.chatglm.positions import position_ids_of
from tests.models.chatglm import tiny

CLOSE = {"atol": 2e-5, "rtol": 2e-5}
ANSWERS = torch.tensor([[30, 31, 32, 33, 34], [35, 36, 37, 38, 39], [40, 41, 42, 43, 44]])


@pytest.fixture(scope="module", autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model():
    return tiny.language()


@pytest.fixture(scope="module")
def batch():
    return tiny.padded(tiny.PROMPTS)


def grown(batch, answers=ANSWERS):
    mask = torch.nn.functional.pad(batch["attention_mask"], (0, answers.shape[1]), value=1)
    return {"input_ids": torch.cat([batch["input_ids"], answers], 1), "attention_mask": mask}


@pytest.fixture(scope="module")
def whole(model, batch):
    """Logits (3, 6, V) of the answers' tokens from one pass without a cache."""
    return model(**grown(batch), use_cache=False).logits[:, -6:]


@pytest.mark.parametrize("make_cache", [DynamicCache, GrowingCache])
@pytest.mark.parametrize("sizes", [[1] * 5, [5], [2, 1, 2]], ids=str)
@pytest.mark.parametrize("rope", ["fp32_from_fp16", "hf_fp16", "fp32"])
def test_cached_in_chunks_is_whole(batch, make_cache, sizes, rope):
    model = tiny.language(rope=rope)
    inputs, start = grown(batch), batch["input_ids"].shape[1]
    positions = position_ids_of(inputs["input_ids"], model.config, inputs["attention_mask"])
    expected = model(**inputs, use_cache=False).logits[:, -6:]
    out = model(**batch, past_key_values=make_cache(), logits_to_keep=1)
    logits = [out.logits]
    for size in sizes:
        end = start + size
        out = model(
            input_ids=inputs["input_ids"][:, start:end],
            attention_mask=inputs["attention_mask"][:, :end],
            position_ids=positions[..., :end],
            past_key_values=out.past_key_values,
        )
        logits.append(out.logits)
        start = end
    assert_close(torch.cat(logits, 1), expected, **CLOSE)


def test_a_padded_batch_is_its_rows(model, whole):
    for row, prompt in enumerate(tiny.PROMPTS):
        ids = torch.tensor([[*prompt, *ANSWERS[row].tolist()]])
        assert_close(model(input_ids=ids).logits[:, -6:], whole[row : row + 1], **CLOSE)


def test_padding_on_the_right_is_no_padding(model, whole):
    rows = [[*prompt, *answer] for prompt, answer in zip(tiny.PROMPTS, ANSWERS.tolist(), strict=True)]
    logits = model(**tiny.padded(rows, "right")).logits
    for row, ids in enumerate(rows):
        assert_close(logits[row, len(ids) - 6 : len(ids)], whole[row], **CLOSE)


def test_rows_that_begin_with_padding_need_no_mask(model, batch):
    masked = model(**batch).logits[:, -1]
    assert_close(model(input_ids=batch["input_ids"]).logits[:, -1], masked, **CLOSE)


def test_context_is_read_both_ways_and_the_answer_one_way(model):
    prompt = torch.tensor([tiny.PROMPTS[0]])
    base = model(input_ids=torch.cat([prompt, ANSWERS[:1]], 1)).logits
    other_context = prompt.clone()
    other_context[0, 2] = 11
    assert (model(input_ids=torch.cat([other_context, ANSWERS[:1]], 1)).logits - base)[0, 0].abs().max() > 0.01
    later = ANSWERS[:1].clone()
    later[0, -1] = 11
    changed = (model(input_ids=torch.cat([prompt, later], 1)).logits - base)[0].abs().amax(-1)
    assert changed[:-1].max() == 0
    assert changed[-1] > 0.01


def test_embeddings_are_as_good_as_ids(model, batch):
    embeds = model.get_input_embeddings()(batch["input_ids"])
    positions = position_ids_of(batch["input_ids"], model.config, batch["attention_mask"])
    given = {"attention_mask": batch["attention_mask"], "position_ids": positions}
    assert_close(model(inputs_embeds=embeds, **given).logits, model(**batch).logits, **CLOSE)
    settings = {"max_new_tokens": 4, "do_sample": False}
    out = model.generate(inputs_embeds=embeds, **given, **settings)
    assert torch.equal(out, model.generate(**batch, **settings)[:, batch["input_ids"].shape[1] :])


def greedy(model, prompt, steps):
    """Arg-max without a cache, whole prompts only."""
    ids = torch.tensor([prompt])
    for _ in range(steps):
        ids = torch.cat([ids, model(input_ids=ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)], 1)
    return ids[0, len(prompt) :].tolist()


@pytest.mark.parametrize("settings", [{}, {"use_cache": False}, {"cache": True}], ids=str)
def test_generate_is_the_likeliest_token_again_and_again(model, batch, settings):
    settings = {"past_key_values": GrowingCache()} if "cache" in settings else settings
    out = model.generate(**batch, max_new_tokens=6, do_sample=False, eos_token_id=None, **settings)
    assert out[:, batch["input_ids"].shape[1] :].tolist() == [greedy(model, prompt, 6) for prompt in tiny.PROMPTS]


def test_streamed_is_whole(model, batch):
    steps = list(stream_ids(model, batch, max_new_tokens=5, eos_token_id=None))
    out = model.generate(**batch, max_new_tokens=5, do_sample=False, eos_token_id=None)
    assert [list(column) for column in zip(*steps, strict=True)] == out[:, batch["input_ids"].shape[1] :].tolist()


def test_beams_of_a_batch_are_those_of_its_rows(model, batch):
    settings = {"num_beams": 3, "max_new_tokens": 4, "do_sample": False, "eos_token_id": None}
    out = model.generate(**batch, **settings)[:, batch["input_ids"].shape[1] :]
    alone = [model.generate(input_ids=torch.tensor([p]), **settings)[0, len(p) :] for p in tiny.PROMPTS]
    assert torch.equal(out, torch.stack(alone))


def test_a_draft_model_changes_nothing(model):
    ids = torch.tensor([tiny.PROMPTS[0]])
    draft = tiny.spread(tiny.language(num_hidden_layers=1), seed=4)
    drafted = model.generate(input_ids=ids, assistant_model=draft, max_new_tokens=8, do_sample=False, eos_token_id=None)
    assert drafted[0, ids.shape[1] :].tolist() == greedy(model, tiny.PROMPTS[0], 8)


@pytest.mark.parametrize("projection", [False, True])
def test_a_prefix_is_seen_by_every_token_and_moves_no_position(batch, projection):
    model = tiny.language(pre_seq_len=4, prefix_projection=projection)
    whole = model(**grown(batch), use_cache=False).logits[:, -6:]
    assert (whole - tiny.language()(**grown(batch)).logits[:, -6:]).abs().amax(-1).min() > 0.01
    for row, prompt in enumerate(tiny.PROMPTS):
        assert_close(model(input_ids=torch.tensor([[*prompt, *ANSWERS[row]]])).logits[0, -6:], whole[row], **CLOSE)
    out = model.generate(**batch, max_new_tokens=5, do_sample=False, eos_token_id=None)
    assert out[:, batch["input_ids"].shape[1] :].tolist() == [greedy(model, prompt, 5) for prompt in tiny.PROMPTS]


def test_saved_is_loaded(model, batch, tmp_path):
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(**batch).logits, model(**batch).logits)
    assert torch.equal(AutoModel.from_pretrained(tmp_path)(**batch)[0], model.model(**batch)[0])
    assert again.config.rope == "fp32_from_fp16"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_near_and_finite(batch, dtype):
    model = tiny.language()
    wide = model(**batch).logits[:, -1]
    half = model.to(dtype)(**batch).logits
    assert half.dtype == dtype
    assert half.isfinite().all()
    assert (half[:, -1].float() - wide).abs().max() < 0.2 * wide.std()


def test_half_precision_knows_far_positions_apart(batch):
    """Angles are never computed in bf16, where positions above 256 would collide."""
    model = tiny.language(max_sequence_length=4096).bfloat16()
    ids = torch.full((1, 600), 9)
    ids[0, 300], ids[0, -2], ids[0, -1] = 8, tiny.GMASK, tiny.BOS
    moved = ids.clone()
    moved[0, 300], moved[0, 301] = 9, 8
    assert not torch.equal(model(input_ids=ids).logits, model(input_ids=moved).logits)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"input_ids": torch.tensor([[7, 8, tiny.GMASK]])}, "<sop>"),
        ({"input_ids": torch.tensor([[7, 8, tiny.BOS]])}, "MASK"),
        ({}, "give input_ids"),
        ({"inputs_embeds": torch.zeros(1, 2, 32)}, "position_ids"),
        ({"input_ids": torch.tensor([[7]]), "position_ids": torch.zeros(1, 1)}, "1×2×1"),
        ({"input_ids": torch.tensor([tiny.PROMPTS[0]]), "attention_mask": torch.ones(1, 9)}, "attention_mask"),
        ({"input_ids": torch.tensor([tiny.PROMPTS[0]]), "labels": torch.zeros(1, 5), "logits_to_keep": 1}, "labels"),
    ],
)
def test_what_cannot_be_is_said(model, inputs, message):
    with pytest.raises(ValueError, match=message):
        model(**inputs)


def test_an_unknown_input_is_an_error(model):
    with pytest.raises(TypeError, match="wheels"):
        model(input_ids=torch.tensor([tiny.PROMPTS[0]]), wheels=torch.ones(1))


@pytest.mark.parametrize("settings", [{"rope": "fp8"}, {"hidden_size": 36}])
def test_a_wrong_configuration_is_refused(settings):
    with pytest.raises(Exception, match=r"rope|hidden_size"):
        tiny.config(**settings)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")
def test_the_loss_can_be_trained():
    with torch.enable_grad():
        model = tiny.language(pre_seq_len=2).train()
        model.gradient_checkpointing_enable()
        ids = torch.tensor([[*tiny.PROMPTS[0], *ANSWERS[0]]])
        labels = ids.masked_fill(torch.arange(ids.shape[1]) < 5, -100)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    log = model(input_ids=ids, use_cache=False).logits.log_softmax(-1)
    expected = -torch.stack([log[0, t - 1, ids[0, t]] for t in range(5, 10)])
    assert_close(loss, expected.mean())
    split = model(input_ids=ids, labels=labels, num_items_in_batch=20).loss
    assert_close(split, expected.sum() / 20)
