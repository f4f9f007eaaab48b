"""Recorded cases of VisualGLM's sampling, quantised weights, adapters and fine-tuning pass; changed copies do not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from huayu.evaluation import verify
from tests.golden.support import change_json, change_tensors, changed, failed

CASES = Path(__file__).parent / "visualglm_tuning"
NAMES = sorted(path.parent.name for path in CASES.glob("*/config.json"))
# Inputs have no line of their own: what they give has.
GIVEN = {
    "sampling": ("greedy.input_ids", "greedy.pixel_values", "table.logits", "table.prev_ids"),
    "quant": ("qkv.weight_fp32", "dense.weight_fp16", "h4.bias", "odd_rows.x"),
    "lora": ("input_ids", "pixel_values"),
    "ptuning_sat": ("input_ids", "pixel_values"),
    "ptuning_hf": ("input_ids",),
    "ptuning_hf_proj": ("input_ids",),
    "finetune": ("images",),
}


def copy_of(name, target):
    shutil.copytree(CASES / name, target / name)
    return target / name


def is_input(name, tensor):
    ending = tensor.rpartition(".")[2]
    return (
        tensor in GIVEN[name]
        or tensor in ("pre_image", "nan.logits_in")
        or ending.startswith(("weight_fp", "x", "bias"))
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_case_passes(name, capsys):
    assert verify.main([str(CASES / name)]) == 0
    out = capsys.readouterr().out
    assert out.count(" ok\n") >= 3
    assert "FAIL" not in out
    assert "not checked" not in out


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_tensor_has_a_line_that_sees_one_changed_entry(name, tmp_path):
    folder = copy_of(name, tmp_path)
    wanted = "int4" if name == "quant" else ""  # a product of bits of 8 differs by less than the change
    tensors = load_file(folder / "io.safetensors")
    chosen = [tensor for tensor in tensors if not is_input(name, tensor) and wanted in tensor]
    for tensor in chosen:
        infinite = not tensors[tensor].flatten()[tensors[tensor].numel() // 2].isfinite()
        tensors[tensor] = tensors[tensor].nan_to_num(neginf=0.0) if infinite else changed(tensors[tensor])
    save_file(tensors, folder / "io.safetensors")
    assert chosen
    assert set(chosen) - failed(folder) == set()


@pytest.mark.parametrize(("name", "given"), [(name, given) for name in GIVEN for given in GIVEN[name]])
def test_every_input_matters(name, given, tmp_path):
    folder = copy_of(name, tmp_path)
    tensors = load_file(folder / "io.safetensors")
    if given == "table.prev_ids":  # of the answer, which both orders look at
        tensors[given][:, -1] = tensors["table.logits"].argmax(dim=-1)
    elif tensors[given].dtype == torch.int64:
        tensors[given][..., 0] += 1
    else:
        tensors[given] = -tensors[given]
    save_file(tensors, folder / "io.safetensors")
    assert failed(folder)


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("lora", "layers.2.attention.query_key_value.matrix_B.1"),
        ("lora", "layers.0.attention.dense.matrix_A.0"),
        ("ptuning_sat", "mixins.ptuning.prefix.1"),
        ("ptuning_hf", "prefix_encoder.embedding.weight"),
        ("ptuning_hf_proj", "prefix_encoder.trans.2.bias"),
        ("finetune", "mixins.chatglm-final.lm_head.weight"),
    ],
)
def test_one_changed_weight_is_seen(name, ending, tmp_path):
    folder = copy_of(name, tmp_path)
    assert change_tensors(folder, lambda key: key.endswith(ending), "weights.safetensors")
    assert failed(folder)


def test_other_answers_are_seen(tmp_path):
    folder = copy_of("sampling", tmp_path)
    weights = load_file(folder / "weights.safetensors")
    weights["lm_head.weight"] = -weights["lm_head.weight"]
    save_file(weights, folder / "weights.safetensors")
    assert {"greedy.output_ids", "sat_greedy_rep1.2.output_ids"} <= failed(folder)


def change_setting(*path):
    def change(value):
        *parents, last = path
        for key in parents:
            value = value[key]
        old = value[last]
        value[last] = not old if isinstance(old, bool) else old + (1 if isinstance(old, int | float) else "b")

    return change


@pytest.mark.parametrize(
    ("name", "file", "path"),
    [
        ("sampling", "meta.json", ("cases", 7, "top_p")),
        ("sampling", "meta.json", ("cases", 5, "temperature")),
        ("sampling", "meta.json", ("cases", 5, "repetition_penalty")),
        ("sampling", "meta.json", ("cases", 4, "top_p")),
        ("sampling", "meta.json", ("stream_yields",)),
        ("sampling", "meta.json", ("greedy_equal_hf_sat",)),
        ("lora", "config.json", ("lora_rank",)),
        ("lora", "config.json", ("layer_range", 1)),
        ("lora", "config.json", ("scaling",)),
        ("lora", "config.json", ("trainable", 3)),
        ("finetune", "config.json", ("max_source_length",)),
        ("finetune", "config.json", ("max_target_length",)),
        ("finetune", "config.json", ("pre_image",)),
        ("finetune", "items.json", (0, "prompt")),
        ("finetune", "items.json", (2, "label")),
        ("ptuning_hf", "config.json", ("pre_seq_len",)),
    ],
)
def test_one_changed_setting_is_seen(name, file, path, tmp_path):
    folder = copy_of(name, tmp_path)
    change_json(folder, file, change_setting(*path))
    assert failed(folder)


@pytest.mark.parametrize(
    ("name", "lost"), [("lora", "matrix_B.2"), ("ptuning_sat", "prefix.2"), ("finetune", "norm.bias")]
)
def test_a_missing_weight_is_seen(name, lost, tmp_path):
    folder = copy_of(name, tmp_path)
    weights = load_file(folder / "weights.safetensors")
    weights.pop(next(key for key in sorted(weights) if key.endswith(lost)))
    save_file(weights, folder / "weights.safetensors")
    assert failed(folder)


def test_without_its_vocabulary_a_fine_tuning_case_leaves_ids_open_and_the_loss_not(tmp_path, capsys):
    folder = copy_of("finetune", tmp_path)
    (folder / "tiny_text.model").unlink()
    assert verify.main([str(folder)]) == 0
    assert capsys.readouterr().out.count("not checked") == 2
    change_tensors(folder, lambda tensor: tensor == "loss")
    assert failed(folder) == {"loss"}


def numpy_case(folder, seed, sizes):
    """A case of other sizes by the published formulas, in numpy."""
    rng, tensors = np.random.default_rng(seed), {}
    for name, rows, columns in sizes:
        weight = (rng.standard_normal((rows, columns)) * 0.1).astype(np.float16)
        bias, x = (rng.standard_normal(shape).astype(np.float32) for shape in ((rows,), (2, columns)))
        tensors |= {f"{name}.weight_fp16": weight, f"{name}.bias": bias, f"{name}.x": x}
        for bits, top in ((8, 127), (4, 7)):
            scale = (np.abs(weight).max(1) / np.float16(top)).astype(np.float16)
            q = np.rint((weight / scale[:, None]).astype(np.float16)).astype(np.int8)
            whole = q.astype(np.float16) * scale[:, None]
            found = {"q": q, "weight_scale": scale, "dequant_fp16": whole}
            if bits == 4:
                found["packed"] = ((q[:, ::2] << 4) | (q[:, 1::2] & 15)).astype(np.int8)
            found["linear_fp32"] = x @ whole.astype(np.float32).T + bias
            tensors |= {f"{name}.from_fp16.int{bits}.{part}": value for part, value in found.items()}
    folder.mkdir()
    save_file(
        {name: torch.from_numpy(np.ascontiguousarray(t)) for name, t in tensors.items()}, folder / "io.safetensors"
    )
    (folder / "config.json").write_text(json.dumps({"case": "visualglm/quant", "tolerance": 1e-5, "bits": [8, 4]}))
    return folder


@pytest.mark.parametrize("sizes", [[("a", 5, 6), ("b.c", 1, 2)], [("wide", 3, 3000)]])
def test_quantised_weights_of_other_sizes_pass(sizes, tmp_path):
    folder = numpy_case(tmp_path / "quant", 11, sizes)
    assert failed(folder) == set()
    change_tensors(folder, lambda tensor: tensor.endswith("int4.packed"))
    assert failed(folder) == {f"{name}.from_fp16.int4.packed" for name, _, _ in sizes}
