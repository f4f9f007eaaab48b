"""Golden cases of the language model: one whole forward, and the same in steps. B rows, T tokens, H heads."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from huayu.errors import CheckpointError
from huayu.evaluation.verify.arrays import (
    PLACEHOLDER,
    Row,
    check_rows,
    model_inputs,
    packed_rows,
    short_names,
    words_of,
)
from huayu.evaluation.verify.cases import Case
from huayu.evaluation.verify.report import Report
from huayu.generation.cache import GrowingCache
from huayu.generation.published import ModelStepper
from huayu.models.cpm_bee.packing import pack
from huayu.models.cpm_bee.position_bias import Layout


@torch.no_grad()
def lm_forward(case: Case, report: Report) -> None:
    """Rows, embeddings, mask, bias, every block's output, hidden states, logits."""
    arrays = _inputs_of(case)
    rows = packed_rows(case.config["rows"], case.vocabulary, arrays["input_sub"])
    check_rows(report, rows, arrays, "in.")
    _check_words(report, rows, arrays)
    model: Any = case.language_model()
    inputs = model_inputs(arrays)
    if "inputs" not in case.config:  # a case that borrows its inputs borrows these checks with them
        _check_layout(case, report, model, inputs)
    output = model(**inputs, output_hidden_states=True, use_cache=False)
    embeds, *blocks = output.hidden_states
    tolerance = case.tolerance
    report.close("embeds", embeds, case.take("embeds"), tolerance)
    for number, block in enumerate(blocks):
        report.close(f"block{number}", block, case.take(f"block{number}"), tolerance)
    report.close("hidden", model.model.norm(blocks[-1]), case.take("hidden"), tolerance)
    report.close("logits", output.logits, case.take("logits"), tolerance)


def _inputs_of(case: Case) -> dict[str, Tensor]:
    """Input arrays by short name: the case's own, or those of the file its settings name."""
    if "inputs" not in case.config:
        return short_names(case.tensors, "in.", case)
    found = re.search(r"(\S+)\.\* of (\S+\.safetensors)$", case.config["inputs"])
    if not found:
        raise CheckpointError(f"inputs {case.config['inputs']!r} is not understood", "无法理解 inputs 一项")
    from huayu.checkpoints.reader import open_tensors

    return short_names(dict(open_tensors(case.path(found[2]))), f"{found[1]}.")


def _check_words(report: Report, rows: list[Row], arrays: dict[str, Tensor]) -> None:
    """One entry per distinct pair of the batch, in order of appearance."""
    ours = list(dict.fromkeys(pair for row in rows for pair in row.words))
    theirs = words_of(arrays)
    if not ours and theirs == [PLACEHOLDER]:
        ours = theirs
    report.exact("in.ext_table", ours, theirs)


def _check_layout(case: Case, report: Report, model: Any, inputs: dict[str, Tensor]) -> None:
    tokens = inputs["input_ids"].shape[1]
    layout = Layout(
        valid=inputs["attention_mask"].bool(),
        context=inputs["is_context"].bool(),
        sample_ids=inputs["sample_ids"],
        span_ids=inputs["span_ids"],
        segment_ids=inputs["segment_ids"],
        num_segments=inputs["num_segments"],
        segment_rel_offset=inputs["segment_rel_offset"],
        segment_rel=inputs["segment_rel"],
        position_ids=inputs["position_ids"],
    )
    report.exact("attention_mask", layout.visible(tokens), case.take("attention_mask"))
    positions = inputs["position_ids"]
    bias = model.model.position_bias(positions, positions, layout.relations(tokens))
    report.close("position_bias", bias, case.take("position_bias"), case.tolerance)


@torch.no_grad()
def lm_incremental(case: Case, report: Report) -> None:
    """A whole forward, the prompt and single tokens, the prompt and chunks: all numbers and all caches."""
    arrays = short_names(case.tensors, "in.", case)
    rows = [Row().add(pack(case.config["item"], case.vocabulary))]
    check_rows(report, rows, arrays, "in.")
    _check_words(report, rows, arrays)
    inputs, model = model_inputs(arrays), case.language_model()
    prompt = int(inputs["is_context"][0].sum())
    report.exact("prompt_len", prompt, case.config["prompt_len"])
    _check_whole(case, report, model, inputs)
    _check_steps(case, report, model, inputs, prompt)
    _check_chunks(case, report, model, inputs, prompt)


def _check_whole(case: Case, report: Report, model: Any, inputs: dict[str, Tensor]) -> None:
    whole = model(**inputs, output_hidden_states=True, use_cache=False)
    hidden = model.model.norm(whole.hidden_states[-1])
    report.close("full_logits", whole.logits, case.take("full_logits"), case.tolerance)
    report.close("full_hidden", hidden, case.take("full_hidden"), case.tolerance)


def _check_steps(case: Case, report: Report, model: Any, inputs: dict[str, Tensor], prompt: int) -> None:
    """The prompt in one call, then single tokens as the published search feeds them."""
    before = _until(inputs, 0, prompt)
    cache = GrowingCache()
    logits = model(**before, past_key_values=cache, use_cache=True).logits
    report.close("prompt_logits", logits, case.take("prompt_logits"), case.tolerance)
    _check_cache(case, report, model, cache, "prompt")
    ids = _with_words(inputs, len(case.vocabulary))
    tokens = ids.shape[1]
    stepper = ModelStepper(model, before, num_beams=1, max_steps=tokens - prompt)
    segments = inputs["segment_ids"]
    steps = [
        stepper.step(ids[:, at], segments[:, at], torch.full_like(ids[:, at], at - prompt))
        for at in range(prompt, tokens)
    ]
    report.close("step_logits", torch.stack(steps, 1), case.take("step_logits"), case.tolerance)
    _check_cache(case, report, model, stepper.cache, "final")


def _check_cache(case: Case, report: Report, model: Any, cache: GrowingCache, prefix: str) -> None:
    for number, layer in enumerate(model.model.layers):
        if layer.has_attention:
            held = cache.layers[layer.attention.cache_index]
            report.close(f"{prefix}_k{number}", held.keys, case.take(f"{prefix}_k{number}"), case.tolerance)
            report.close(f"{prefix}_v{number}", held.values, case.take(f"{prefix}_v{number}"), case.tolerance)


def _check_chunks(case: Case, report: Report, model: Any, inputs: dict[str, Tensor], prompt: int) -> None:
    """The prompt, then pieces with their real positions and context flags."""
    tokens, size = inputs["input_ids"].shape[1], int(case.config["chunk"])
    cache, pieces = GrowingCache(), []
    for start, end in [(0, prompt), *((at, min(at + size, tokens)) for at in range(prompt, tokens, size))]:
        piece = model(**_until(inputs, start, end), past_key_values=cache, use_cache=True)
        pieces.append(piece.logits)
    report.close("chunk_logits", torch.cat(pieces, 1), case.take("chunk_logits"), case.tolerance)


def _until(inputs: dict[str, Tensor], start: int, end: int) -> dict[str, Tensor]:
    """Tokens ``start`` to ``end`` with the metadata of all tokens up to there."""
    cut = {}
    for name, value in inputs.items():
        if name in ("input_ids", "token_subscripts"):
            cut[name] = value[:, start:end]
        else:
            cut[name] = value if name in ("segment_rel", "request_vocab") else value[:, :end]
    return cut


def _with_words(inputs: dict[str, Tensor], vocab_size: int) -> Tensor:
    """Ids (B, T) where the request's own words have the ids that a search would feed."""
    ids = inputs["input_ids"].clone()
    for number, (base, subscript) in enumerate(_table(inputs)):
        here = (inputs["input_ids"] == base) & (inputs["token_subscripts"] == subscript)
        ids[here] = vocab_size + number
    return ids


def _table(inputs: dict[str, Tensor]) -> list[list[int]]:
    return inputs["request_vocab"][0].tolist() if "request_vocab" in inputs else []
