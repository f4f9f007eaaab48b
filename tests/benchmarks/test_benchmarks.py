"""The benchmarks run at tiny sizes and name their figures; what they measure is not looked at here."""

from __future__ import annotations

import json
import re
import time

import pytest
import torch

from benchmarks import chat, decode, languages, paint, quantized, run, table
from benchmarks.gpu import decode_10b, setting, steps, visualglm_6b
from benchmarks.gpu import paint as gpu_paint
from benchmarks.timing import Timing, beside_floor, in_turns
from tests.chat.tiny import save_tiny_chat


def test_runner_writes_flat_figures(tmp_path, capsys):
    file = tmp_path / "figures.json"
    run.main(["--quick", "--only", "decode,start", "--json", str(file)])
    found = json.loads(file.read_text("utf-8"))
    assert json.loads(capsys.readouterr().out) == found
    assert all(value is None or isinstance(value, bool | int | float | str) for value in found.values())
    assert found["quick"] is True
    assert found["torch"] == torch.__version__
    for name in ("decode", "decode_short", "generate", "prefill"):
        assert 0 < found[f"{name}_floor_ratio"] < 1
        assert found[f"{name}_ms_min"] <= found[f"{name}_ms"] <= found[f"{name}_ms_max"]
        ratio = found[f"{name}_floor_ms"] / found[f"{name}_ms"]
        assert ratio == pytest.approx(found[f"{name}_floor_ratio"], abs=0.006 / found[f"{name}_ms"] + 0.001)
    assert 0 < found["import_seconds"] < found["help_seconds"]

    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter", "utf-8")
    table.main([str(file), str(page)])
    before, made, after = re.split(f"{table.BEGIN}|{table.END}", page.read_text("utf-8"))
    assert (before, after) == ("before\n", "\nafter")
    assert "old" not in made
    for name in ("decode_short_ms", "generate_tokens_per_second", "prefill_floor_ratio"):
        assert f"| {found[name]} |" in made
    assert f"| `huayu --help` | {found['help_seconds']:g} s |" in made


def test_runner_knows_its_benchmarks(capsys):
    with pytest.raises(SystemExit):
        run.main(["--only", "decode,dice"])
    assert "dice" in capsys.readouterr().err


def test_names_of_other_cases():
    threads = torch.get_num_threads()
    try:
        found = decode.measure(2, 3, decode.TINY)
    finally:
        torch.set_num_threads(threads)
    assert {"decode_floor_ratio_t2_b3", "prefill_ms_min_t2_b3", "generate_tokens_per_second_t2_b3"} <= set(found)


def test_chatglm_has_its_own_names_and_a_prompt_is_read_as_it_decodes():
    threads = torch.get_num_threads()
    try:
        found = decode.measure(1, 1, decode.GLM_TINY)
    finally:
        torch.set_num_threads(threads)
    assert {"glm_decode_floor_ratio", "glm_prefill_ms", "glm_generate_tokens_per_second"} <= set(found)
    assert all(name.startswith("glm_") for name in found)


def test_steps_of_chatglm_are_those_of_the_whole_sequence():
    language = decode.GLM_TINY.language
    model, inputs = language.build(), language.prompts(2, 20)
    with torch.inference_mode():
        step = language.greedy_steps(model, inputs)
        logits = [step() for _ in range(3)]
        ids = inputs["input_ids"]
        for one in [None, *logits][:3]:
            new = model(ids).logits[:, -1].argmax(-1) if one is None else one[:, -1].argmax(-1)
            ids = torch.cat([ids, new[:, None]], dim=1)
        torch.testing.assert_close(model(ids).logits[:, -3:], torch.cat(logits, dim=1), rtol=1e-4, atol=1e-5)


def test_bits_beside_fp32(tmp_path):
    threads = torch.get_num_threads()
    try:
        found = quantized.measure(1, 1, decode.GLM_TINY)
    finally:
        torch.set_num_threads(threads)
    for name in ("int8", "int4", "int4_published", "bf16"):
        assert found[f"{name}_speedup"] == pytest.approx(found["fp32_ms"] / found[f"{name}_ms"], rel=0.05)
    assert found["int4_mb"] < found["int8_mb"] < found["int8_published_mb"] < found["fp32_mb"]
    assert 0 < found["int8_product_error"] < 0.02
    file, page = tmp_path / "figures.json", tmp_path / "page.md"
    file.write_text(json.dumps({**run.environment(), **found}), "utf-8")
    page.write_text(table.BEGIN + table.END, "utf-8")
    table.main([str(file), str(file), str(page)])
    assert page.read_text("utf-8").count(f"| INT4, tables fp32 | {found['int4_published_ms']} |") == 2


def test_prompts_are_as_long_as_asked():
    for batch, tokens, start in ((1, 40, True), (3, 25, False)):
        inputs = languages.prompts(150, batch, tokens, start_answer=start)
        assert inputs["input_ids"].shape == (batch, tokens)
        assert inputs["attention_mask"].all()
    assert (languages.prompts(150, 1, 40, 4)["image_token_index"] >= 0).sum() == 4


def test_chat_figures(tmp_path):
    started = time.time()
    found = chat.ask_here(started, str(save_tiny_chat(tmp_path / "model")))
    assert 0 < found["chat_load_seconds"] <= found["chat_first_token_seconds"]
    assert found["chat_answer_seconds"] > 0
    assert 50 < found["chat_peak_rss_mb"] < 10_000


def test_turns_and_medians():
    done: list[str] = []
    first, second = in_turns(3, lambda: done.append("a"), lambda: done.append("b"))
    assert "".join(done) == "abababab"
    assert len(first.wall) == len(second.cpu) == 3
    floor, ours = Timing([1.0, 2.0, 9.0], [1.0]), Timing([4.0, 3.0, 8.0], [4.0])
    figures = beside_floor("x", floor, ours, "_b8")
    assert figures["x_floor_ratio_b8"] == 0.5
    assert figures["x_floor_ratio_cpu_b8"] == 0.25
    assert (figures["x_ms_min_b8"], figures["x_ms_b8"], figures["x_ms_max_b8"]) == (3000, 4000, 8000)


def test_gpu_script_on_the_cpu(tmp_path):
    found = decode_10b.main(["--tiny", "--out", str(tmp_path)])
    assert json.loads((tmp_path / "decode_10b.json").read_text("utf-8")) == found
    assert "copy_gb_per_second=" in (tmp_path / "decode_10b.log").read_text("utf-8")
    for tokens in setting.TINY.prompts:
        assert found[f"first_token_seconds_{tokens}"] > 0
    for batch in setting.TINY.batches:
        assert found[f"eager_tokens_per_second_b{batch}"] > 0
        assert found[f"same_tokens_b{batch}"] == 1


def test_gpu_script_of_visualglm_on_the_cpu(tmp_path):
    found = visualglm_6b.main(["--tiny", "--out", str(tmp_path)])
    assert json.loads((tmp_path / "visualglm_6b.json").read_text("utf-8")) == found
    assert found["int4_weights_gb"] < found["int8_weights_gb"] < found["bf16_weights_gb"]
    for form in ("bf16", "int8", "int4"):
        assert found[f"{form}_first_token_seconds_40"] > 0
        assert found[f"{form}_floor_ratio_b3"] > 0


def test_gpu_script_ends_in_time(tmp_path):
    found = decode_10b.main(["--tiny", "--out", str(tmp_path), "--seconds", "0"])
    assert len(found["left_out"]) == len(setting.TINY.prompts) + len(setting.TINY.batches)
    assert not any(name.startswith("eager") for name in found)


@torch.no_grad()
def test_fixed_shapes_give_the_logits_of_a_growing_cache():
    model = decode.TINY.language.build()
    whole = languages.prompts(150, 2, 30)
    inputs = languages.prompts(150, 2, 29, start_answer=False)
    answer = int(whole["segment_ids"][0, -1])
    inputs["attention_mask"][1, :6] = 0
    grown, fixed = (kind(model, inputs, answer, 20) for kind in (steps.GrowingSteps, steps.FixedSteps))
    seen: list[torch.Tensor] = []
    model.register_forward_hook(lambda _module, _inputs, out: seen.append(out.logits.clone()))
    for _ in range(20):
        assert torch.equal(grown(), fixed())
    for one, other in zip(seen[::2], seen[1::2], strict=True):
        torch.testing.assert_close(one, other)


def test_a_step_of_the_unet_beside_the_plain_one():
    found = paint.unet_here(tiny=True)
    assert found["unet_step_seconds"] > 0
    assert found["unet_plain_step_seconds"] > 0


def test_painting_at_the_published_shape_runs_tiny(tmp_path):
    gpu_paint.main(["--tiny", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "paint.json").read_text("utf-8"))
    for mode in ("default", "exact", "default_plain", "exact_plain", "default_channels_last"):
        for batch in (1, 2):
            assert found[f"{mode}_seconds_b{batch}"] > 0
            assert found[f"{mode}_floor_ratio_b{batch}"] > 0
