"""Every published key of VisualGLM-6B, by its real name with a tiny tensor, through all formats and back to the bit."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from huayu.checkpoints.convert import convert
from huayu.checkpoints.find import locate
from huayu.checkpoints.opening import open_model
from huayu.checkpoints.ranks import open_sat
from huayu.checkpoints.reader import open_tensors
from tests.checkpoints.test_visualglm_formats import EVA, HF, QFORMER, SAT, TEXT, models_equal, same

FIXTURES = Path(__file__).parents[1] / "fixtures"
# Published width → tiny one, wherever it stands in a shape; the others are multiples of these.
WIDTHS = {4096: 16, 12288: 48, 16384: 24, 130528: 64, 1408: 8, 4224: 24, 6144: 12, 768: 8, 2304: 24, 1536: 16, 3072: 32}
WIDTHS |= {257: 5, 14: 14, 3: 3, 1: 1, 32: 4, 2048: 12}
LAYERS = {"num_layers": 28, "hidden_size": 16, "num_attention_heads": 2, "inner_hidden_size": 24, "vocab_size": 64}
VISION = {**EVA, "num_layers": 39, "hidden_size": 8, "inner_hidden_size": 12}
QUERIES = {**QFORMER, "num_layers": 12, "hidden_size": 8, "vocab_size": 4, "cross_attn_hidden_size": 8}
QUERIES["is_decoder"] = [True, False] * 6


def inventory(form):
    """Published name → shape. Source: spec visualglm §1."""
    with gzip.open(FIXTURES / f"visualglm-{form}.keys.json.gz", "rt", encoding="utf-8") as file:
        return json.load(file)


def state(form):
    torch.manual_seed(4)
    return {name: torch.randn([WIDTHS[n] for n in shape]).half() for name, shape in inventory(form).items()}


def settings(form):
    base, tower, queries = (SAT, "eva_args", "qformer_args") if form == "sat" else (HF, "eva_config", "qformer_config")
    return {**base, **TEXT, **LAYERS, "image_length": 4, tower: VISION, queries: QUERIES}


def write(folder, form, tensors):
    if form == "sat":
        (folder / "1").mkdir(parents=True)
        (folder / "latest").write_text("1")
        torch.save({"module": tensors}, folder / "1" / "mp_rank_00_model_states.pt")
    else:
        folder.mkdir()
        torch.save(tensors, folder / "pytorch_model.bin")
    name = "model_config.json" if form == "sat" else "config.json"
    (folder / name).write_text(json.dumps(settings(form)))
    return folder


@pytest.mark.parametrize(("form", "keys"), [("hf", 1039), ("sat", 1013)])
def test_there_and_back_with_every_key(tmp_path, form, keys):
    tensors = state(form)
    assert len(tensors) == keys
    done = convert(write(tmp_path / "source", form, tensors), tmp_path / "ours")
    assert len(done.report.dropped) == {"hf": 28, "sat": 2}[form]
    convert(tmp_path / "ours", tmp_path / "back", to=form)
    same(dict(open_sat(tmp_path / "back") if form == "sat" else open_tensors(tmp_path / "back")), tensors)


def test_round_all_formats(tmp_path):
    tensors = state("hf")
    source = write(tmp_path / "hf", "hf", tensors)
    convert(source, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "hf2", to="hf", max_shard_size=100_000)
    same(dict(open_tensors(tmp_path / "hf2")), tensors)
    convert(tmp_path / "hf2", tmp_path / "sat", to="sat")
    assert set(inventory("sat")) - set(open_sat(tmp_path / "sat")) == {  # nothing of Hugging Face's holds these
        "mixins.chatglm-attn.rotary_emb.inv_freq",
        "transformer.position_embeddings.weight",
    }
    convert(tmp_path / "sat", tmp_path / "ours2")
    models_equal(open_model(locate(tmp_path / "ours2")), open_model(locate(tmp_path / "ours")))
    convert(tmp_path / "ours2", tmp_path / "hf3", to="hf")
    lost = {name for name in tensors if name.endswith("rotary_emb.inv_freq")}
    same(dict(open_tensors(tmp_path / "hf3")), {name: t for name, t in tensors.items() if name not in lost})
    assert len(lost) == 28
