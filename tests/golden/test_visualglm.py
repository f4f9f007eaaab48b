"""Recorded cases of VisualGLM pass under both namings; a copy with one number, id or character changed does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from huayu.checkpoints.reader import open_tensors
from huayu.checkpoints.recast import put_together, taken_apart
from huayu.evaluation import verify
from huayu.evaluation.verify.runner import KINDS
from huayu.evaluation.verify.runner import verify as verify_folder
from huayu.models.visualglm.checkpoint import hf_keymap, sat_keymap
from tests.golden.support import change_json, change_tensors, failed

CASES = Path(__file__).parent / "visualglm"
NAMES = sorted(path.parent.name for path in CASES.glob("*/config.json"))
SHARED = Path(__file__).resolve().parents[3] / "shared" / "golden" / "visualglm"
# Inputs have no line of their own: what they give has.
GIVEN = {
    "lm_forward": ("input_ids", "padding_mask", "labels", "image_embeds", "pre_image_length"),
    "incremental": ("input_ids", "pixel_values", "pre_image_length"),
    "vit": ("pixel_values",),
    "qformer": ("encoder_hidden_states",),
    "full_sat": ("input_ids", "pixel_values", "pre_image_length"),
    "positions": ("input_ids",),
    "rope": ("positions",),
}


def copy_of(name, target):
    """The case and what it borrows, under ``target``."""
    shutil.copytree(CASES / name, target / name)
    shutil.copy(CASES / "tiny_text.model", target)
    return target / name


def is_given(name, tensor):
    return tensor.rpartition(".")[2] in GIVEN.get(name, ())


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_case_passes(name, capsys):
    assert verify.main([str(CASES / name)]) == 0
    out = capsys.readouterr().out
    assert out.count(" ok\n") >= 3
    assert "FAIL" not in out
    assert "not checked" not in out


@pytest.mark.golden
@pytest.mark.skipif(not SHARED.is_dir(), reason="the whole cases are not beside this checkout")
@pytest.mark.parametrize("name", sorted(p.name for p in SHARED.glob("*") if p.is_dir()))
def test_the_whole_cases_pass(name):
    kind = json.loads((SHARED / name / "config.json").read_text("utf-8"))["case"]
    assert kind in KINDS
    assert [check for check in verify_folder(SHARED / name)["checks"] if check["ok"] is not True] == []


@pytest.mark.parametrize("name", [name for name in NAMES if (CASES / name / "io.safetensors").is_file()])
def test_every_recorded_tensor_has_a_line_that_sees_one_changed_entry(name, tmp_path):
    folder = copy_of(name, tmp_path)
    chosen = change_tensors(folder, lambda tensor: not is_given(name, tensor))
    assert chosen
    assert set(chosen) - failed(folder) == set()


@pytest.mark.parametrize(("name", "given"), [(name, given) for name in GIVEN for given in GIVEN[name]])
def test_every_input_matters(name, given, tmp_path):
    folder = copy_of(name, tmp_path)
    assert change_tensors(folder, lambda tensor: tensor.rpartition(".")[2] == given)
    assert failed(folder)


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("lm_forward", "layers.1.attention.query_key_value.bias"),
        ("lm_forward", "layers.0.attention.rotary_emb.inv_freq"),
        ("incremental", "image_encoder.glm_proj.weight"),
        ("vit", "transformer.position_embeddings.weight"),
        ("qformer", "layers.2.cross_attention.key_value.weight"),
        ("full_sat", "transformer.layers.1.attention.query_key_value.weight"),
        ("full_sat", "mixins.eva.model.qformer.transformer.layers.1.input_layernorm.weight"),
    ],
)
def test_one_changed_weight_is_seen(name, ending, tmp_path):
    folder = copy_of(name, tmp_path)
    assert change_tensors(folder, lambda key: key.endswith(ending), "weights.safetensors")
    assert failed(folder)


@pytest.mark.parametrize("ending", ["lm_head.weight", "mlp.dense_h_to_4h.bias", "query_key_value.weight"])
def test_a_missing_weight_is_seen(ending, tmp_path):
    folder = copy_of("full_sat", tmp_path)
    weights = load_file(folder / "weights.safetensors")
    weights.pop(next(key for key in sorted(weights) if key.endswith(ending)))
    save_file(weights, folder / "weights.safetensors")
    assert failed(folder)


def at(value, path):
    for key in path[:-1]:
        value = value[key]
    return value


def altered(value):
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value[:-1], altered(value[-1])] if value else [0]
    return value[:-1] + ("b" if value[-1:] != "b" else "c")


@pytest.mark.parametrize(
    ("name", "file", "path"),
    [
        ("lm_forward", "config.json", ("gmask_token_id",)),
        ("lm_forward", "config.json", ("layernorm_epsilon",)),
        ("lm_forward", "config.json", ("residual_alpha",)),
        ("vit", "config.json", ("ln_vision_eps",)),
        ("qformer", "config.json", ("qformer_config", "is_decoder", 1)),
        ("positions", "config.json", ("n",)),
        ("positions", "config.json", ("gmask",)),
        ("positions", "meta.json", ("12_no_mask_token", "errors", "sat")),
        ("positions", "meta.json", ("08_left_padded_batch_with_answer", "ids", 0, 4)),
        ("rope", "config.json", ("base",)),
        ("image", "config.json", ("size",)),
        ("image", "config.json", ("mean", 1)),
        ("tokenizer", "config.json", ("special", "blank_80")),
        ("tokenizer", "config.json", ("vocab",)),
        ("tokenizer", "tokenizer_config.json", ("eos_token",)),
        *(("tokenizer", "cases.json", (15, f)) for f in ("text", "ids", "tokens", "ids_with_special", "decoded")),
        ("tokenizer", "cases.json", (23, "decoded_skip")),
        ("tokenizer", "calls.json", ("batch", "input_ids", 1, 0)),
        ("tokenizer", "calls.json", ("batch", "position_ids", 1, 0, 6)),
        ("tokenizer", "calls.json", ("max_length", "attention_mask", 0, 3)),
        ("tokenizer", "calls.json", ("single", "input_ids", 0)),
        ("tokenizer", "calls.json", ("pair", "out")),
        ("tokenizer", "calls.json", ("decode", 3, "text")),
        ("prompts", "config.json", ("image_length",)),
        ("prompts", "config.json", ("n",)),
        *(("prompts", "cases.json", (-1, "hf", f)) for f in ("prompt_with_path", "prompt", "image_position")),
        *(("prompts", "cases.json", (-1, "sat", f)) for f in ("prompt", "has_image", "input_ids", "pre_image")),
        ("prompts", "cases.json", (20, "sat_pil", "error")),
        ("prompts", "lm_only.json", (2, "prompt")),
        ("prompts", "process_response.json", (11, "out")),
        ("prompts", "sat_split.json", (1, "response")),
    ],
)
def test_one_changed_character_or_number_is_seen(name, file, path, tmp_path):
    folder = copy_of(name, tmp_path)

    def change(value):
        at(value, path)[path[-1]] = altered(at(value, path)[path[-1]])

    change_json(folder, file, change)
    assert failed(folder)


@pytest.mark.parametrize("picture", ["wide_rgb_300x200.png", "tall_rgba_97x151.png"])
def test_one_changed_pixel_is_seen(picture, tmp_path):
    folder = copy_of("image", tmp_path)
    with Image.open(folder / picture) as image:
        image.load()
        red, *others = image.getpixel((40, 50))
        image.putpixel((40, 50), ((red + 128) % 256, *others))
        image.save(folder / picture)
    assert failed(folder)


def test_the_same_weights_under_the_other_naming_pass(tmp_path):
    """sat → ours → Hugging Face → ours → sat: the same case there, and the same bits back."""
    folder, config = copy_of("full_sat", tmp_path), json.loads((CASES / "full_sat" / "config.json").read_text("utf-8"))
    sat = sat_keymap(config["qformer_config"]["num_layers"])
    hf = hf_keymap(config["num_attention_heads"], config["num_layers"], config["qformer_config"]["num_layers"])
    published = open_tensors(folder / "weights.safetensors")
    other = put_together(ours_of(published, sat), hf)
    save_file({name: other[name].clone() for name in other}, tmp_path / "hf.safetensors")
    again = put_together(ours_of(open_tensors(tmp_path / "hf.safetensors"), hf), sat)
    kept = {name for name in published if "inv_freq" not in name and name != "transformer.position_embeddings.weight"}
    assert set(again) == kept
    assert all(torch.equal(again[name], published[name]) for name in kept)
    shutil.move(tmp_path / "hf.safetensors", folder / "weights.safetensors")
    change_json(folder, "config.json", lambda config: config.update(case="visualglm/full_hf"))
    tensors = load_file(folder / "io.safetensors")
    tensors.pop("logits_invfreq_fp32")
    tensors["input_ids"][tensors["input_ids"] == config["pad_token_id"]] = 0
    save_file(tensors, folder / "io.safetensors")
    assert failed(folder) == set()
    bias = "transformer.layers.2.attention.query_key_value.bias"
    change_tensors(folder, lambda key: key == bias, "weights.safetensors")
    assert "logits" in failed(folder)


def ours_of(published, keymap):
    parts = taken_apart(published, keymap)
    names = {key: keymap.to_ours(key) for key in parts}
    return type(parts)({ours: parts.entries[k] for k, ours in names.items() if isinstance(ours, str)}, parts.files)
