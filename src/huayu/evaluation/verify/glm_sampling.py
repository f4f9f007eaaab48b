"""Golden cases of VisualGLM's generation: greedy answers about a picture, tables of filtered scores, seeded draws."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from huayu.evaluation.verify.cases import Case
from huayu.evaluation.verify.glm_models import image_token_index, visualglm
from huayu.evaluation.verify.report import Report
from huayu.generation.glm_sampling import DrawAsPublished, GLMSampling

_GREEDY = re.compile(r"(?P<sat>sat_)?greedy(_rep(?P<penalty>[\d.]+))?\.output_ids")
_SEEDED = re.compile(r"(?P<mode>hf|sat)\.(?P<row>\d+)\.sampled_ids_seed(?P<seed>\d+)")
_FORBIDDEN = re.compile(r"sat_invalid_(?P<first>\d+)_(?P<end>\d+)\.filtered")
# The table with forbidden ids says nothing of its other settings: those of the published demos, but for top-k.
_DEMO = GLMSampling("sat", temperature=0.8, top_k=50, top_p=0.4, repetition_penalty=1.0)
_DEMO_TOP_K = (50, 100, 30, 20)


@torch.inference_mode()
def sampling(case: Case, report: Report) -> None:
    """Every answer, every table, every draw of the case."""
    meta = case.json("meta.json")
    _check_answers(case, report, meta)
    _check_tables(case, report, meta)


def _check_answers(case: Case, report: Report, meta: dict[str, Any]) -> None:
    """Greedy ids of both orders; sat's placeholders of the picture are padding."""
    model: Any = visualglm(case)
    prompt = case.take("greedy.input_ids")
    index = image_token_index(prompt, model.config.image_length)
    features = model.get_image_features(case.take("greedy.pixel_values"))[None]
    greedy: dict[str, Tensor] = {}
    for name in sorted(case.tensors):
        if found := _GREEDY.fullmatch(name):
            recorded = case.take(name)
            mode = "sat" if found["sat"] else "hf"
            start = prompt.masked_fill(index >= 0, case.config["pad_token_id"]) if found["sat"] else prompt
            penalty = float(found["penalty"] or 1)
            ours = model.generate(
                input_ids=start,
                image_embeds=features,
                image_token_index=index,
                attention_mask=torch.ones_like(start),  # sat's placeholders are the padding token
                do_sample=False,
                max_new_tokens=recorded.shape[1] - start.shape[1],
                logits_processor=GLMSampling(mode, repetition_penalty=penalty, greedy=True).processors(start.shape[1]),
            )
            greedy[name] = ours
            report.exact(name, ours, recorded)
    plain = greedy["greedy.output_ids"]
    # Published streams never give the token that ends them.
    report.exact("stream_greedy.last_yield", plain[:, :-1], case.take("stream_greedy.last_yield"))
    report.exact("stream_yields", plain.shape[1] - prompt.shape[1] - 1, meta["stream_yields"])
    sat = greedy["sat_greedy_rep1.0.output_ids"][:, prompt.shape[1] :]
    report.exact("greedy_equal_hf_sat", torch.equal(sat, plain[:, prompt.shape[1] :]), meta["greedy_equal_hf_sat"])


def _check_tables(case: Case, report: Report, meta: dict[str, Any]) -> None:
    logits, previous = case.take("table.logits"), case.take("table.prev_ids")
    context = int(meta["context_length_for_sat_repetition"])
    for row in meta["cases"]:
        settings = {name: row[name] for name in ("temperature", "top_k", "top_p", "repetition_penalty")}
        for mode, result in (("hf", "scores"), ("sat", "filtered"))[: 1 + bool(row["sat"])]:
            prefix = f"{mode}.{row['index']}."
            scores = GLMSampling(mode, **settings).scores(context)(previous, logits.clone())
            report.close(f"{prefix}{result}", scores, case.take(f"{prefix}{result}"), case.tolerance)
            report.close(f"{prefix}probs", scores.softmax(-1), case.take(f"{prefix}probs"), case.tolerance)
            _check_draws(case, report, mode, row["index"], scores)
    for name in sorted(case.tensors):
        if found := _FORBIDDEN.fullmatch(name):
            recorded, ranges = case.take(name), ((int(found["first"]), int(found["end"])),)
            tables = [
                replace(_DEMO, top_k=top_k, forbidden=ranges).scores(context)(previous, logits.clone())
                for top_k in _DEMO_TOP_K
            ]
            fitting = (table for table in tables if torch.allclose(table, recorded, rtol=0, atol=case.tolerance))
            report.close(name, next(fitting, tables[0]), recorded, case.tolerance)
    _check_nan(case, report, previous, context)


def _check_draws(case: Case, report: Report, mode: str, row: int, scores: Tensor) -> None:
    for name in sorted(case.tensors):
        found = _SEEDED.fullmatch(name)
        if found and (found["mode"], int(found["row"])) == (mode, row):
            drawn = DrawAsPublished(int(found["seed"]))(scores, scores).argmax(dim=-1)
            report.exact(name, drawn, case.take(name))


def _check_nan(case: Case, report: Report, previous: Tensor, context: int) -> None:
    spoiled = case.take("nan.logits_in")
    guarded = GLMSampling("hf", repetition_penalty=1.0, greedy=True).scores(context)(previous, spoiled.clone())
    report.close("nan.hf_scores", guarded, case.take("nan.hf_scores"), case.tolerance)
    try:
        _DEMO.scores(context)(previous, spoiled.clone())
        refused = False
    except ValueError:
        refused = True
    report.exact("sat_nan_error", refused, True)
