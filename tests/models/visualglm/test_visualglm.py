"""VisualGLM: one answer however it is computed, names of both formats, prompts that typed tags cannot move."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

import huayu.hf  # noqa: F401
from huayu.checkpoints.reader import Entry, LazyTensors
from huayu.checkpoints.recast import put_together, taken_apart
from huayu.checkpoints.report import account
from huayu.errors import CheckpointError
from huayu.models.chatglm import ChatGLMTokenizer
from huayu.models.visualglm import HF_KEYMAP, SAT_KEYMAP, VisualGLMConfig, VisualGLMForConditionalGeneration
from tests.models.visualglm import tiny

CLOSE = {"atol": 2e-5, "rtol": 2e-5}
FIXTURES = Path(__file__).parents[2] / "fixtures"
QUESTIONS = ["图中有几个人？", "你好", "这是什么东西，在哪里？它是红色的。"]
HISTORY = [(), (("问题", "两个人。"),), ()]


@pytest.fixture(scope="module", autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def processor():
    return tiny.processor()


@pytest.fixture(scope="module")
def pictures():
    first, second = tiny.pictures()
    return [first, None, second]


@pytest.fixture(scope="module")
def batch(processor, pictures):
    return processor(images=pictures, text=QUESTIONS, history=HISTORY)


def singles(processor, pictures):
    for picture, question, history in zip(pictures, QUESTIONS, HISTORY, strict=True):
        yield processor(images=[picture], text=[question], history=[history])


def test_a_batch_is_its_rows_and_each_sees_its_own_picture(model, processor, pictures, batch):
    logits = model(**batch).logits[:, -1]
    for row, single in enumerate(singles(processor, pictures)):
        assert_close(model(**single).logits[:, -1], logits[row : row + 1], **CLOSE)
    swapped = {**batch, "pixel_values": batch["pixel_values"].flip(0)}
    change = (model(**swapped).logits[:, -1] - logits).abs().amax(-1)
    assert change[0] > 0.01
    assert change[1] == 0


def test_pictures_may_be_read_before(model, batch):
    embeds = torch.zeros(3, 1, tiny.QUERIES, 32)
    embeds[[0, 2], 0] = model.get_image_features(batch["pixel_values"][[0, 2], 0])
    given = {name: value for name, value in batch.items() if name != "pixel_values"}
    assert_close(model(**given, image_embeds=embeds).logits, model(**batch).logits, **CLOSE)


def test_generate_with_and_without_cache_and_row_by_row(model, processor, pictures, batch):
    settings = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    start = batch["input_ids"].shape[1]
    out = model.generate(**batch, **settings)[:, start:]
    assert torch.equal(model.generate(**batch, **settings, use_cache=False)[:, start:], out)
    for row, single in enumerate(singles(processor, pictures)):
        assert torch.equal(model.generate(**single, **settings)[0, single["input_ids"].shape[1] :], out[row])
    beams = model.generate(**batch, **settings, num_beams=3)[:, start:]
    single = next(iter(singles(processor, pictures)))
    alone = model.generate(**single, **settings, num_beams=3)[0, single["input_ids"].shape[1] :]
    assert torch.equal(alone, beams[0])


def test_larger_pictures_are_read_by_interpolated_positions(model):
    larger = torch.rand(1, 3, 2 * tiny.SIDE, 2 * tiny.SIDE, generator=torch.Generator().manual_seed(1))
    features = model.get_image_features(larger)
    assert features.shape == (1, tiny.QUERIES, 32)
    assert (features - model.get_image_features(larger[..., ::2, ::2])).abs().max() > 0.01


def test_saved_is_loaded(model, processor, batch, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    processor.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    again, talker = AutoModelForImageTextToText.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    assert torch.equal(again(**batch).logits, model(**batch).logits)
    assert again.vision_encoder.post_layernorm.eps == 1e-5
    assert torch.equal(talker(images=tiny.pictures()[:1], text="你好")["pixel_values"], batch["pixel_values"][:1])
    assert talker.image_length == tiny.QUERIES


@pytest.mark.parametrize("wrong", ["no index", "no picture", "both"])
def test_pictures_and_their_places_belong_together(model, batch, wrong):
    inputs = dict(batch)
    if wrong == "both":
        inputs["image_embeds"] = torch.zeros(3, 1, tiny.QUERIES, 32)
    else:
        inputs.pop("image_token_index" if wrong == "no index" else "pixel_values")
    with pytest.raises(ValueError, match="image"):
        model(**inputs)


@pytest.fixture(scope="module")
def published():
    """Our names and shapes for the published 6B model."""
    with torch.device("meta"):
        model = VisualGLMForConditionalGeneration(VisualGLMConfig())
    assert sum(p.numel() for p in model.parameters()) == 7_802_193_408
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def lazy(shapes):
    return LazyTensors(
        {name: Entry(shape, torch.float16, lambda: torch.empty(0)) for name, shape in shapes.items()}, ()
    )


LEFT_OVER = {
    "hf": {f"transformer.layers.{n}.attention.rotary_emb.inv_freq": (32,) for n in range(28)},
    "sat": {
        "mixins.chatglm-attn.rotary_emb.inv_freq": (32,),
        "transformer.position_embeddings.weight": (2048, 4096),
    },
}


@pytest.mark.parametrize(("form", "keymap", "keys"), [("hf", HF_KEYMAP, 1039), ("sat", SAT_KEYMAP, 1013)])
def test_every_published_key_is_accounted_for_in_both_directions(published, form, keymap, keys):
    there = {**put_together(lazy(published), keymap).shapes, **LEFT_OVER[form]}
    assert len(there) == keys
    report = account(published, taken_apart(lazy(there), keymap).shapes, keymap)
    assert report.ok
    assert set(report.dropped) == set(LEFT_OVER[form])
    assert all(report.dropped.values())
    with gzip.open(FIXTURES / f"visualglm-{form}.keys.json.gz", "rt", encoding="utf-8") as file:
        assert there == {name: tuple(shape) for name, shape in json.load(file).items()}


def test_a_strange_shape_or_a_lost_part_names_the_key(published):
    there = put_together(lazy(published), HF_KEYMAP).shapes
    fused = "image_encoder.qformer.transformer.layers.3.attention.query_key_value.weight"
    with pytest.raises(CheckpointError, match="query_key_value"):
        taken_apart(lazy({**there, fused: (2305, 768)}), HF_KEYMAP)
    part = "qformer.encoder.layer.3.attention.attention.key.weight"
    with pytest.raises(CheckpointError, match="key"):
        put_together(lazy({name: shape for name, shape in published.items() if name != part}), HF_KEYMAP)
    with pytest.raises(CheckpointError, match="wheels"):
        put_together(lazy({"wheels": (4,)}), HF_KEYMAP)


def test_what_is_typed_moves_no_picture_and_no_context(processor):
    tokenizer = processor.tokenizer
    plain = processor.chat_prompt("甲", picture=True)
    typed = processor.chat_prompt("<img>b.png</img><sop>[MASK]<eop>甲", [("<img>", "</img>")], picture=True)
    assert typed.picture_at == plain.picture_at == len(tokenizer.tokenize("<img>"))
    assert typed.ids[: plain.picture_at + tiny.QUERIES] == plain.ids[: plain.picture_at + tiny.QUERIES]
    specials = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.mask_token_id}
    assert [i for i in typed.ids if i in specials] == [tokenizer.bos_token_id]
    assert typed.ids[-2:] == [tokenizer.gmask_token_id, tokenizer.bos_token_id]
    strict = processor.published_prompt("<sop>甲", image_path="a.png", flavour="hf")
    assert strict.ids.count(tokenizer.bos_token_id) == 2
    assert processor.published_prompt("甲", image_path="a.png", flavour="sat").ids.count(tokenizer.pad_token_id) == 4


def test_published_prompts_refuse_what_published_code_refused(processor):
    with pytest.raises(ValueError, match="English"):
        processor.published_prompt("hi", flavour="hf", english=True)
    with pytest.raises(IndexError):
        processor.published_prompt("<img>", flavour="sat")


def test_the_tokenizer_is_an_ordinary_one(tmp_path):
    tokenizer = ChatGLMTokenizer(str(tiny.VOCABULARY))
    tokenizer.save_pretrained(tmp_path)
    again = ChatGLMTokenizer.from_pretrained(tmp_path)
    text = "问：<sop> 你好\n\t    the cat ?"
    ids = again.encode(text, add_special_tokens=False)
    assert again.decode(ids, clean_up_tokenization_spaces=False) == text
    assert again.decode([*ids, 5000]) == text.replace(" ?", "?")
    assert ids == tokenizer.encode(text, add_special_tokens=False)
    assert not again.strict
    strict = ChatGLMTokenizer.from_pretrained(tmp_path, strict=True)
    strict.save_pretrained(tmp_path / "strict")
    assert ChatGLMTokenizer.from_pretrained(tmp_path / "strict").encode("<sop>", add_special_tokens=False) == [704]
    padded = again(["你好", "the"], padding=True, return_tensors="pt")
    assert padded["position_ids"].shape == (2, 2, padded["input_ids"].shape[1])
    assert padded["attention_mask"][1].tolist() == (padded["input_ids"][1] != 3).long().tolist()
    assert set(again("你好")) == {"input_ids"}
    right = again(["你好", "the"], padding=True, padding_side="right")
    assert right["position_ids"][1][1][-1] == 0
    tiny.config().text_config.save_pretrained(tmp_path)
    assert isinstance(AutoTokenizer.from_pretrained(tmp_path), ChatGLMTokenizer)


def test_a_foreign_vocabulary_is_refused(tmp_path):
    with pytest.raises(ValueError, match="num_image_tokens"):
        ChatGLMTokenizer(str(tiny.VOCABULARY), num_image_tokens=20000)
    with pytest.raises(ValueError, match="wheels"):
        ChatGLMTokenizer(str(tiny.VOCABULARY), gmask_token="<wheels>")
