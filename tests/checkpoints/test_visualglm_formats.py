"""VisualGLM's two published formats and ours: opened alike, converted there and back to the bit."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from huayu.checkpoints.convert import convert
from huayu.checkpoints.find import locate
from huayu.checkpoints.opening import blueprint, open_model
from huayu.checkpoints.ranks import divided, open_sat
from huayu.checkpoints.reader import Entry, LazyTensors, open_tensors
from huayu.checkpoints.recast import put_together
from huayu.errors import CheckpointError
from huayu.models.visualglm import VisualGLMConfig, VisualGLMForConditionalGeneration, published

TEXT = {"vocab_size": 1100, "hidden_size": 32, "num_layers": 2, "num_attention_heads": 4, "inner_hidden_size": 64}
IDS = {"bos_token_id": 1004, "eos_token_id": 1005, "mask_token_id": 1000, "gmask_token_id": 1001, "pad_token_id": 3}
EVA = {
    "num_layers": 2,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "inner_hidden_size": 24,
    "patch_size": 14,
    "image_size": [28, 28],
}
QFORMER = {
    "num_layers": 2,
    "hidden_size": 24,
    "num_attention_heads": 2,
    "vocab_size": 8,
    "cross_attn_hidden_size": 16,
    "is_decoder": [True, False],
}
SAT = {**TEXT, **IDS, "image_length": 8, "eva_args": EVA, "qformer_args": QFORMER, "model_parallel_size": 1}
HF = {**TEXT, **IDS, "image_length": 8, "eva_config": EVA, "qformer_config": QFORMER, "model_type": "chatglm"}


def published_state(sat, **changes):
    """Random tensors under the published names of one format, with what the model does not use."""
    torch.manual_seed(8)
    config = VisualGLMConfig.from_published({**SAT, **changes})
    state = VisualGLMForConditionalGeneration(config).half().state_dict()
    for tensor in state.values():
        tensor.normal_()
    entries = {name: Entry(tuple(t.shape), t.dtype, lambda t=t: t) for name, t in state.items()}
    whole = dict(put_together(LazyTensors(entries, ()), published.keymap(config, sat=sat)))
    if sat:
        whole["mixins.chatglm-attn.rotary_emb.inv_freq"] = torch.rand(2).half()
        whole["transformer.position_embeddings.weight"] = torch.rand(16, 32).half()
    else:
        whole |= {f"transformer.layers.{n}.attention.rotary_emb.inv_freq": torch.rand(2).half() for n in range(2)}
    return {name: tensor.clone() for name, tensor in whole.items()}


def write_sat(folder, state, ranks=1, **changes):
    (folder / "300").mkdir(parents=True)
    (folder / "latest").write_text("300")
    (folder / "model_config.json").write_text(json.dumps({**SAT, "model_parallel_size": ranks, **changes}))
    for rank in range(ranks):
        part = {name: divided(tensor, name, ranks)[rank].clone() for name, tensor in state.items()}
        torch.save({"iteration": 300, "module": part}, folder / "300" / f"mp_rank_{rank:02d}_model_states.pt")
    return folder


def write_hf(folder, state):
    folder.mkdir()
    names = sorted(state)
    shards = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for file, keys in shards.items():
        torch.save({key: state[key] for key in keys}, folder / file)
    weight_map = {key: file for file, keys in shards.items() for key in keys}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(HF))
    (folder / "LICENSE").write_text("the licence of the source")
    return folder


def same(found, expected):
    assert set(found) == set(expected)
    assert all(found[name].dtype == expected[name].dtype for name in expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def models_equal(one, other):
    same(one.model.state_dict(), other.model.state_dict())
    assert isinstance(one.model, nn.Module)


def test_both_formats_open_as_the_same_model(tmp_path):
    sat = open_model(locate(write_sat(tmp_path / "sat", published_state(True))), mmap=True)
    hf = open_model(locate(write_hf(tmp_path / "hf", published_state(False))), mmap=True)
    models_equal(sat, hf)
    assert len(sat.report.dropped) == len(hf.report.dropped) == 2
    assert sat.model.config.text_config.gmask_token_id == 1001


@pytest.mark.parametrize("form", ["sat", "hf"])
def test_there_and_back_to_the_bit(tmp_path, form):
    state = published_state(form == "sat")
    source = (write_sat if form == "sat" else write_hf)(tmp_path / "source", state)
    done = convert(source, tmp_path / "ours", max_shard_size=40_000)
    assert len(done.report.loaded) + 0 == len(blueprint(locate(tmp_path / "ours")).model.state_dict())
    convert(tmp_path / "ours", tmp_path / "back", to=form, max_shard_size=60_000)
    back = open_sat(tmp_path / "back") if form == "sat" else open_tensors(tmp_path / "back")
    same(dict(back), state)
    settings = json.loads((tmp_path / "back" / ("model_config.json" if form == "sat" else "config.json")).read_text())
    assert settings == (SAT if form == "sat" else HF)
    models_equal(open_model(locate(tmp_path / "ours")), open_model(locate(tmp_path / "back")))


def test_from_one_published_format_to_the_other(tmp_path):
    source = write_sat(tmp_path / "source", published_state(True))
    done = convert(source, tmp_path / "hf", to="hf")
    models_equal(open_model(locate(tmp_path / "hf")), open_model(locate(source)))
    convert(tmp_path / "hf", tmp_path / "sat", to="sat")
    models_equal(open_model(locate(tmp_path / "sat")), open_model(locate(source)))
    convert(source, tmp_path / "one.bin")
    same(dict(open_tensors(tmp_path / "one.bin")), dict(open_tensors(tmp_path / "hf")))
    assert done.report.ok


def test_a_model_that_ran_in_parallel_is_joined(tmp_path, monkeypatch):
    state = published_state(True, pre_seq_len=3)
    folder = write_sat(tmp_path / "parallel", state, ranks=2)
    share = torch.load(folder / "300" / "mp_rank_01_model_states.pt")["module"]
    assert share["transformer.layers.0.attention.query_key_value.weight"].shape == (48, 32)
    same(dict(open_sat(folder)), state)
    monkeypatch.setenv("SAT_HOME", str(tmp_path))
    assert open_model(locate("parallel")).model.config.text_config.pre_seq_len == 3
    (folder / "300" / "mp_rank_01_model_states.pt").unlink()
    with pytest.raises(CheckpointError, match="mp_rank_01"):
        open_sat(folder)


def with_lora(state, layers=(0, 1), rank=2):
    torch.manual_seed(9)
    state = dict(state)
    for n in layers:
        for name, parts in (("query_key_value", 3), ("dense", 1)):
            linear = f"transformer.layers.{n}.attention.{name}"
            for tensor in ("weight", "bias"):
                state[f"{linear}.original.{tensor}"] = state.pop(f"{linear}.{tensor}")
            for part in range(parts):
                state[f"{linear}.matrix_A.{part}"] = torch.randn(rank, 32).half()
                state[f"{linear}.matrix_B.{part}"] = torch.randn(32, rank).half()
    return state


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks for it
def test_lora_is_merged_or_kept_as_an_adapter_with_the_same_answers(tmp_path):
    peft = pytest.importorskip("peft")
    wide = {name: tensor.float() for name, tensor in published_state(True).items()}
    folder = write_sat(tmp_path / "tuned", with_lora(wide), use_lora=True, lora_rank=2)
    convert(folder, tmp_path / "merged")
    convert(folder, tmp_path / "base", keep_lora=True)
    ids = torch.tensor([[7, 8, 9, 1001, 1004]])
    merged, base = (open_model(locate(tmp_path / name)).model for name in ("merged", "base"))
    with torch.no_grad():
        expected, plain = merged(ids).logits, base(ids).logits
        tuned = peft.PeftModel.from_pretrained(base, tmp_path / "base" / "adapter")(ids).logits
    assert (plain - expected).abs().max() > 1e-2
    assert (tuned - expected).abs().max() < 1e-4
    with pytest.raises(CheckpointError, match="no LoRA"):
        convert(write_sat(tmp_path / "plain", published_state(True)), tmp_path / "x", keep_lora=True)


def test_lora_of_parallel_ranks_is_merged_share_by_share(tmp_path):
    state = {name: tensor.float() for name, tensor in published_state(True).items()}
    folder = write_sat(tmp_path / "parallel", state, ranks=2, use_lora=True, lora_rank=2)
    torch.manual_seed(9)
    expected = dict(state)
    deltas = {"query_key_value": [], "dense": []}
    for rank in range(2):
        file = folder / "300" / f"mp_rank_{rank:02d}_model_states.pt"
        share = torch.load(file)["module"]
        for name, parts in (("query_key_value", 3), ("dense", 1)):
            linear = f"transformer.layers.1.attention.{name}"
            rows, columns = share[f"{linear}.weight"].shape
            pairs = [(torch.randn(2, columns), torch.randn(rows // parts, 2)) for _ in range(parts)]
            for part, (down, up) in enumerate(pairs):
                share[f"{linear}.matrix_A.{part}"], share[f"{linear}.matrix_B.{part}"] = down, up
            for tensor in ("weight", "bias"):
                share[f"{linear}.original.{tensor}"] = share.pop(f"{linear}.{tensor}")
            deltas[name].append([up @ down / 2 for down, up in pairs])
        torch.save({"module": share}, file)
    qkv = [rank[part] for part in range(3) for rank in deltas["query_key_value"]]  # each part's rows, rank by rank
    expected["transformer.layers.1.attention.query_key_value.weight"] += torch.cat(qkv)
    expected["transformer.layers.1.attention.dense.weight"] += torch.cat([d[0] for d in deltas["dense"]], dim=1)
    found = dict(open_sat(folder))
    assert set(found) == set(expected)
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)
    convert(folder, tmp_path / "merged")
    with pytest.raises(CheckpointError, match="only be merged"):
        convert(folder, tmp_path / "kept", keep_lora=True)


def test_what_does_not_fit_is_said(tmp_path):
    state = published_state(True)
    state["transformer.layers.0.odd.weight"] = torch.zeros(2)
    with pytest.raises(CheckpointError, match=r"odd\.weight"):
        open_model(locate(write_sat(tmp_path / "odd", state)))
    (tmp_path / "odd" / "latest").write_text("../x")
    with pytest.raises(CheckpointError, match="iteration"):
        open_model(locate(tmp_path / "odd"))
    with pytest.raises(CheckpointError, match="zip"):
        convert(write_hf(tmp_path / "hf", published_state(False)), tmp_path / "y", to="zip")
