"""Recorded cases pass; a copy in which one number, id or character was changed does not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from huayu.evaluation import verify
from huayu.evaluation.verify.runner import verify as verify_folder
from tests.golden.support import CASES, NAMES, change_json, change_line, change_tensors, copy_of, failed

SHARED = Path(__file__).resolve().parents[3] / "shared" / "golden" / "viscpm"
WITH_TENSORS = [name for name in NAMES if (CASES / name / "io.safetensors").is_file()]
# Tensors that are compared two at a time, under one name.
TOGETHER = {"ext_table_ids": "ext_table", "ext_table_sub": "ext_table"}


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_case_passes(name, capsys):
    assert verify.main([str(CASES / name)]) == 0
    out = capsys.readouterr().out
    assert out.count(" ok\n") >= 2
    assert "FAIL" not in out


@pytest.mark.golden
@pytest.mark.skipif(not SHARED.is_dir(), reason="the whole cases are not beside this checkout")
@pytest.mark.parametrize("name", sorted(p.name for p in SHARED.glob("*") if p.is_dir()))
def test_the_whole_cases_pass(name):
    result = verify_folder(SHARED / name)
    if not result["checks"]:
        pytest.skip(result["message"])
    assert [check for check in result["checks"] if check["ok"] is False] == []


def compared_as(name):
    prefix, _, last = name.rpartition(".")
    last = TOGETHER.get(last.removeprefix("batch_"), last)
    return f"{prefix}.{last}" if prefix else last


@pytest.mark.parametrize("name", WITH_TENSORS)
@pytest.mark.parametrize("part", ["inputs", "outputs"])
def test_every_tensor_has_a_line_that_sees_one_changed_entry(name, part, tmp_path):
    folder = copy_of(name, tmp_path)

    def is_input(tensor):
        return ".in." in f".{tensor}" or tensor in GIVEN.get(name, ())

    chosen = change_tensors(folder, lambda tensor: is_input(tensor) is (part == "inputs"))
    missed = {compared_as(tensor) for tensor in chosen} - failed(folder)
    if name in WITHOUT_LINES:  # weights and arguments have no line of their own: what they give has
        missed -= {*GIVEN[name], *(f"tree{n}.ids" for n in range(9))}
    assert missed == set()


WITHOUT_LINES = ("position_bias", "unet_sampling")
GIVEN = {
    "beit3_queries": ("pixel_values",),
    "unet_sampling": (
        *("vae.pixels", "vae.latents"),
        *(f"r{run}.{text}_hidden" for run in range(3) for text in ("text", "uncond")),
    ),
    "position_bias": (
        *("relative_position", "bias_table", "bias_query_pos", "bias_key_pos", "bias_rel"),
        *("ext_weight_fp32", "ext_weight_fp16", "proj_x", "ext_subs"),
    ),
}


@pytest.mark.parametrize(("name", "given"), [(name, given) for name in WITHOUT_LINES for given in GIVEN[name]])
def test_every_argument_without_a_line_matters(name, given, tmp_path):
    folder = copy_of(name, tmp_path)
    change_tensors(folder, lambda tensor: tensor == given)
    assert failed(folder)


@pytest.mark.parametrize("name", [name for name in NAMES if (CASES / name / "weights.safetensors").is_file()])
def test_one_changed_weight_is_seen(name, tmp_path):
    folder = copy_of(name, tmp_path)
    names = load_file(folder / "weights.safetensors")
    known = ("layers.0.self_att.self_attention.project_q.weight", "query", "unet.conv_in.weight")
    chosen = sorted(key for key in names if key.endswith(known))
    assert change_tensors(folder, lambda key: key == chosen[0], "weights.safetensors")
    assert failed(folder)


def swap(text):
    return ("b" if text[0] != "b" else "c") + text[1:]


def first_character(path):
    """A change of one character of the text at ``path`` in a JSON value."""

    def change(value):
        *parents, last = path
        for key in parents:
            value = value[key]
        value[last] = swap(value[last]) if isinstance(value[last], str) else value[last] + 1

    return change


@pytest.mark.parametrize(
    ("name", "file", "path"),
    [
        ("lm_forward", "config.json", ("rows", 0, 0, "question")),
        ("lm_incremental", "config.json", ("item", "<ans>")),
        ("lm_incremental", "config.json", ("prompt_len",)),
        ("lm_incremental", "config.json", ("chunk",)),
        ("vlu_forward", "config.json", ("items", 1, "context")),
        ("vlu_forward", "config.json", ("ext_table", 0, 1)),
        ("vlu_forward", "config.json", ("no_grad_params", 0)),
        ("preprocess", "config.json", ("sizes_wh", 0, 1)),
        ("position_bias", "config.json", ("trees", 2, "a")),
        ("generation", "results.json", (2, "prompt", "question")),
        ("generation", "results.json", (2, "settings", "beam_size")),
        ("paint_text", "config.json", ("prompts", 0, 0)),
        ("unet_sampling", "config.json", ("runs", 0, "seed")),
        ("unet_sampling", "config.json", ("runs", 1, "steps")),
        ("unet_sampling", "config.json", ("runs", 1, "n")),
        ("unet_sampling", "config.json", ("runs", 2, "scale")),
        ("unet_sampling", "config.json", ("runs", 2, "len")),
        ("unet_sampling", "config.json", ("runs", 2, "width")),
        ("unet_sampling", "config.json", ("vae_scaling_factor",)),
        ("unet_sampling", "config.json", ("scheduler_effective", "beta_schedule")),
        ("tokenizer", "config.json", ("special", "<ans>")),
        ("tokenizer", "config.json", ("newline",)),
        ("tokenizer", "config.json", ("vocab_size",)),
        ("tokenizer", "config.json", ("max_word_len",)),
    ],
)
def test_one_changed_character_or_number_is_seen(name, file, path, tmp_path):
    folder = copy_of(name, tmp_path)

    def change(value):
        if path[-1] == "a":
            value["trees"][2]["<ans>"]["new"] = value["trees"][2].pop("a")
        elif path == ("chunk",):
            value["chunk"] = 0
        else:
            first_character(path)(value)

    change_json(folder, file, change)
    assert failed(folder)


RECORDED = (
    *("answer", "item.question", "token_ids.1", "ans_ids.0", "hypotheses.2.tokens.1", "n_forward"),
    *("ext_table.1", "greedy_token_ids.0", "greedy_text", "greedy_min_gap"),
)


def test_every_recorded_field_of_a_run_is_compared(tmp_path):
    folder = copy_of("generation", tmp_path)

    def change(runs):
        for field in RECORDED:
            path = [int(key) if key.isdigit() and not field.startswith("ext") else key for key in field.split(".")]
            first_character((1, *path))(runs)
        runs[1]["hypotheses"][0]["score"] += 0.001

    change_json(folder, "results.json", change)
    assert failed(folder) == {"run1.scores", *(f"run1.{field.split('.')[0]}" for field in RECORDED)}


FIELDS = {
    "texts.jsonl": ("text", "pieces", "ids", "ext_table", "decoded"),
    "items.jsonl": (
        *("input_ids", "input_id_subs", "context", "segment_ids", "segment_rel", "n_segments"),
        *("ext_table", "token_id_table", "item"),
    ),
}


def altered(value):
    """``value`` with its last leaf changed."""
    if isinstance(value, str):
        return value + "b"
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list):
        return [*value[:-1], altered(value[-1])]
    return {**value, list(value)[-1]: altered(list(value.values())[-1])}


@pytest.mark.parametrize(("file", "field"), [(file, field) for file in FIELDS for field in FIELDS[file]])
def test_every_field_of_a_line_is_compared(file, field, tmp_path):
    folder = copy_of("tokenizer", tmp_path)
    lines = [json.loads(line) for line in (folder / file).read_text("utf-8").splitlines()]
    number = next(
        n for n, line in enumerate(lines) if line.get(field) and not line.get("generation") and "error" not in line
    )
    change_line(folder, file, number, lambda line: line.update({field: altered(line[field])}))
    names = failed(folder)
    assert names
    assert all(name.startswith(file.split(".")[0]) for name in names)


def test_an_error_that_should_be_raised_and_is_not_is_seen(tmp_path):
    folder = copy_of("tokenizer", tmp_path)
    lines = [json.loads(line) for line in (folder / "texts.jsonl").read_text("utf-8").splitlines()]
    fine = next(n for n, line in enumerate(lines) if "ids" in line)
    change_line(folder, "texts.jsonl", fine, lambda line: (line.clear(), line.update(text="a", error="ValueError")))
    assert "texts.error" in failed(folder)


@pytest.mark.parametrize(
    ("name", "picture"), [("preprocess", "img0.png"), ("generation", "img0.png"), ("unet_sampling", "r1_1.png")]
)
def test_one_changed_pixel_is_seen(name, picture, tmp_path):
    folder = copy_of(name, tmp_path)
    with Image.open(folder / picture) as image:
        changed = image.convert("RGB")
    middle = (changed.width // 2, changed.height // 2)
    red, green, blue = changed.getpixel(middle)
    changed.putpixel(middle, ((red + 128) % 256, green, blue))
    changed.save(folder / picture)
    assert failed(folder)


def remove(folder):
    (folder / "weights.safetensors").unlink()


def cut(folder):
    data = (folder / "io.safetensors").read_bytes()
    (folder / "io.safetensors").write_bytes(data[: len(data) // 2])


def drop_tensor(folder):
    tensors = load_file(folder / "io.safetensors")
    del tensors["block1"]
    save_file(tensors, folder / "io.safetensors")


def add_tensor(folder):
    tensors = load_file(folder / "io.safetensors")
    save_file({**tensors, "block7": tensors["block1"].clone()}, folder / "io.safetensors")


def drop_weight(folder):
    tensors = load_file(folder / "weights.safetensors")
    tensors.pop("encoder.output_layernorm.weight")
    save_file(tensors, folder / "weights.safetensors")


def reshape_output(folder):
    tensors = load_file(folder / "io.safetensors")
    save_file({**tensors, "hidden": tensors["hidden"][:, :-1].clone()}, folder / "io.safetensors")


def set_nan(folder):
    tensors = load_file(folder / "io.safetensors")
    tensors["logits"][0, 0, 0] = float("nan")
    save_file(tensors, folder / "io.safetensors")


def spoil_json(folder):
    (folder / "config.json").write_text('{"case": "viscpm/lm_forward", ')


def drop_setting(folder):
    change_json(folder, "config.json", lambda config: config.pop("llm"))


@pytest.mark.parametrize(
    "spoil",
    [remove, cut, drop_tensor, add_tensor, drop_weight, reshape_output, set_nan, spoil_json, drop_setting],
    ids=lambda spoil: spoil.__name__,
)
def test_a_broken_case_is_a_failed_line(spoil, tmp_path, capsys):
    folder = copy_of("lm_forward", tmp_path)
    spoil(folder)
    assert verify.main([str(folder)]) == 1
    out = capsys.readouterr().out
    assert " FAIL\n" in out
    assert "Traceback" not in out


def test_what_is_no_folder_is_ignored_with_a_word(capsys):
    assert verify.main([str(CASES / "README.md"), str(CASES / "preprocess"), "nowhere"]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("ignored") == 2


def test_nothing_to_verify_is_no_success(capsys):
    assert verify.main([str(CASES / "README.md")]) == 1
    assert "nothing" in capsys.readouterr().err


def test_an_unknown_kind_is_said_plainly(tmp_path, capsys):
    folder = copy_of("preprocess", tmp_path)
    change_json(folder, "config.json", lambda config: config.update(case="viscpm/weather"))
    assert verify.main([str(folder)]) == 1
    out = capsys.readouterr().out
    assert "not known yet: viscpm/weather" in out
    assert "FAIL" not in out


def test_one_bad_path_spoils_the_exit_code_but_not_the_others(tmp_path, capsys):
    folder = copy_of("lm_incremental", tmp_path)
    change_tensors(folder, lambda tensor: tensor == "final_v1")
    assert verify.main([str(folder), str(CASES / "preprocess")]) == 1
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines() if line.endswith(" FAIL")]
    assert [words[0] for words in lines if words[1] != "checked,"] == ["final_v1"]


def test_json_says_the_same(capsys):
    assert verify.main([str(CASES / "preprocess")], as_json=True) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["kind"] == "viscpm/preprocess"
    assert [check["name"] for check in result["checks"]] == ["sizes_wh", "pixels0"]


def test_the_screen_speaks_chinese(monkeypatch, capsys):
    monkeypatch.setenv("HUAYU_LANG", "zh")
    assert verify.main([str(CASES / "preprocess")]) == 0
    assert "核对 2 项，0 项不符" in capsys.readouterr().out


def test_trees_use_the_published_vocabulary_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HUAYU_VOCAB", str(CASES / "tokenizer" / "vocab.txt"))
    folder = copy_of("position_bias", tmp_path)
    assert {"tree0.ids", "tree1.ids"} <= failed(folder)  # another vocabulary gives other ids


@pytest.mark.skipif("HUAYU_VOCAB" in os.environ, reason="a vocabulary is set")
def test_without_the_vocabulary_ids_stay_open_and_segments_do_not(tmp_path):
    folder = copy_of("position_bias", tmp_path)
    result = verify_folder(folder)
    assert {check["name"]: check["ok"] for check in result["checks"]}["tree*.ids"] is None
    change_tensors(folder, lambda tensor: tensor == "tree3.segments")
    assert failed(folder) == {"tree3.segments"}
