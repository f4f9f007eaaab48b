"""Whole models with packed layers: in memory, while loading, saved and opened again, from published quantised names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from huayu.checkpoints.find import locate
from huayu.checkpoints.keymap import KeyMap
from huayu.checkpoints.opening import Blueprint, open_model
from huayu.checkpoints.reader import open_tensors
from huayu.errors import ModelError
from huayu.models.chatglm import ChatGLMConfig, ChatGLMForCausalLM
from huayu.models.chatglm.checkpoint import hf_keymap
from huayu.quantization import Part, QuantizedEmbedding, QuantizedLinear, quantize_model, quantize_rows
from huayu.quantization.swap import is_quantized, quantizing, while_loading

SIZES = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "inner_hidden_size": 64}
IDS = {"bos_token_id": 50, "eos_token_id": 51, "mask_token_id": 48, "gmask_token_id": 49}
PROMPT = torch.tensor([[7, 8, 9, 49, 50]])


@pytest.fixture
def model():
    torch.manual_seed(5)
    made = ChatGLMForCausalLM(ChatGLMConfig(**SIZES, **IDS, initializer_range=0.2))
    return made.eval()


def test_scopes_swap_their_layers_alone(model):
    other = ChatGLMForCausalLM(model.config)
    packed = {n for n, m in quantize_model(model, 8).named_modules() if isinstance(m, QuantizedLinear)}
    assert len(packed) == 8
    assert all(".layers." in name for name in packed)
    lean = {n for n, m in quantize_model(other, "int4", "lean").named_modules() if hasattr(m, "bits")}
    assert lean == packed | {"model.embed_tokens", "lm_head"}
    assert isinstance(other.model.embed_tokens, QuantizedEmbedding)
    assert {other.lm_head.bits, other.model.embed_tokens.bits} == {8}
    assert other.model.layers[0].mlp.fc1.bits == 4


@torch.no_grad()
def test_answers_stay_close_in_eight_bits_and_generate_goes_on(model):
    expected = model(PROMPT).logits
    quantize_model(model, 8)
    assert (model(PROMPT).logits - expected).abs().max() < 0.05 * expected.std()
    assert model.generate(PROMPT, max_new_tokens=3, do_sample=False).shape[1] <= 8


def test_the_published_call_chain_keeps_the_scales(model):
    scale = model.quantize(4).model.layers[1].mlp.fc2.weight_scale.clone()
    chained = model.half().float().bfloat16()
    assert torch.equal(chained.model.layers[1].mlp.fc2.weight_scale, scale)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("scope", ["published", "lean"])
def test_saved_and_opened_it_is_the_same(model, tmp_path, scope, dtype):
    from transformers import AutoModelForCausalLM

    import huayu.hf  # noqa: F401

    quantize_model(model, 4, scope).save_pretrained(tmp_path)
    ours = open_model(locate(tmp_path), getattr(torch, dtype)).model
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    model.to(getattr(torch, dtype))
    with torch.no_grad():
        expected = model(PROMPT).logits
        for opened in (ours, theirs):
            assert is_quantized(opened)
            assert torch.equal(opened(PROMPT).logits, expected)


@pytest.mark.parametrize("scope", ["published", "lean"])
def test_quantised_while_loading_it_is_the_same_and_needs_no_whole_copy(model, tmp_path, scope):
    model.half().save_pretrained(tmp_path)
    opened = open_model(locate(tmp_path), torch.float16, prepare=while_loading(4, scope)).model
    expected = quantize_model(model, 4, scope).state_dict()
    found = opened.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert opened.config.quantization_bit == 4


def test_packed_tensors_are_made_where_they_stay(model, tmp_path):
    model.half().save_pretrained(tmp_path)
    made: list[int] = []

    def watched(plan: Blueprint) -> Blueprint:
        plan = while_loading(4)(plan)
        for key, entry in plan.tensors.entries.items():
            if entry.own:

                def read(entry=entry):
                    made.append((tensor := entry.read()).data_ptr())
                    return tensor

                plan.tensors.entries[key] = replace(entry, read=read)
        return plan

    opened = open_model(locate(tmp_path), torch.float16, prepare=watched).model
    packed = [module.weight.data_ptr() for module in opened.modules() if isinstance(module, QuantizedLinear)]
    assert len(packed) == 8
    assert sorted(packed) == sorted(made)


def published_names(state, keymap):
    """The same tensors under published names, rows in the order of the Hugging Face format."""
    named = {}
    for name, tensor in state.items():
        key = keymap.to_published(name)
        whole, _, part = key.partition("#")
        named[whole] = (keymap.recast_of(whole).together([tensor]) if part else tensor).contiguous()
    return named


@pytest.mark.parametrize("bits", [8, 4])
def test_a_published_quantised_checkpoint_loads_to_the_bit(model, tmp_path, bits):
    keymap = hf_keymap(4, 2)
    plain = published_names(model.half().state_dict(), keymap)
    stored = dict(plain)
    for name, tensor in plain.items():
        if name.endswith(("query_key_value.weight", "dense.weight", "dense_h_to_4h.weight", "dense_4h_to_h.weight")):
            stored[name], stored[f"{name}_scale"] = quantize_rows(tensor, bits)
    save_file(stored, tmp_path / "model.safetensors")
    config = ChatGLMConfig(**SIZES, **IDS, quantization_bit=bits)
    with torch.device("meta"):
        empty = ChatGLMForCausalLM(config)
    from huayu.checkpoints.loading import load_into

    load_into(empty, open_tensors(tmp_path / "model.safetensors"), keymap, torch.float16)
    expected = quantize_model(model, bits).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in empty.state_dict().items())
    again = published_names(empty.state_dict(), keymap)
    assert all(torch.equal(again[name], stored[name]) for name in stored)


def test_published_tensors_are_quantised_as_they_are_read(model, tmp_path):
    keymap = hf_keymap(4, 2)
    save_file(published_names(model.half().state_dict(), keymap), tmp_path / "model.safetensors")
    with torch.device("meta"):
        empty = ChatGLMForCausalLM(ChatGLMConfig(**SIZES, **IDS))
    from huayu.checkpoints.loading import load_into

    plan = quantizing(Blueprint(None, "chatglm", empty, open_tensors(tmp_path), keymap), 8, "lean")
    assert isinstance(plan.keymap, KeyMap)
    load_into(plan.model, plan.tensors, plan.keymap, torch.float16)
    expected = quantize_model(model, 8, "lean").state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in plan.model.state_dict().items())


def test_what_cannot_be_done_is_said(model):
    for bits, scope, words in ((3, "published", "3"), (8, "all", "all"), (8, (Part("nowhere.*"),), "nowhere")):
        with pytest.raises(ModelError, match=words):
            quantize_model(model, bits, scope)
    assert not is_quantized(model)
    quantize_model(model, 8)
    with pytest.raises(ModelError, match="already"):
        quantize_model(model, 8)
    with pytest.raises(ModelError, match="Linear"):
        quantize_model(torch.nn.Linear(4, 4), 8)
