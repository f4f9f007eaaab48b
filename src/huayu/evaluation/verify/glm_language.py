"""Golden cases of ChatGLM: whole forwards of every layout, and a greedy answer in steps."""

# B rows, T tokens, V vocabulary

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from huayu.evaluation.verify.cases import Case
from huayu.evaluation.verify.glm_cases import (
    check_cache,
    check_constants,
    check_layout,
    language_model,
    picture_index,
    whole_model,
)
from huayu.evaluation.verify.report import Report
from huayu.generation.cache import GrowingCache
from huayu.models.chatglm.positions import position_ids_of

_PUBLISHED_LAYERS = 28  # that the Hugging Face class leaves in its residual factor, whatever the number of layers

_PLACEHOLDER = 0  # <unk>, as the Hugging Face code has it


@torch.no_grad()
def lm_forward(case: Case, report: Report) -> None:
    """Every sub-case: positions, mask, each layer's input, keys and values, logits, loss."""
    model: Any = language_model(case)
    check_constants(case, report, model.config)
    for name in [name for name in case.tensors if name.endswith(".input_ids")]:
        _check_forward(case, report, model, name.removesuffix("input_ids"))
    extra = [name for name in case.tensors if name.endswith(".logits_alpha28")]
    for layer in model.model.layers:
        layer.alpha = (2 * _PUBLISHED_LAYERS) ** 0.5
    for name in extra:
        logits = model(**_inputs(case, report, model, name.removesuffix("logits_alpha28"))).logits
        report.close(name, logits, case.take(name), case.tolerance)


def _inputs(case: Case, report: Report, model: Any, prefix: str) -> dict[str, Tensor | None]:
    """What the model is given; the picture's vectors are spliced in here."""
    ids = case.take(f"{prefix}input_ids")
    inputs: dict[str, Tensor | None] = {"input_ids": ids, "attention_mask": _optional(case, f"{prefix}padding_mask")}
    inputs["labels"] = _optional(case, f"{prefix}labels")
    if case.has(f"{prefix}image_embeds"):
        vectors = case.take(f"{prefix}image_embeds")
        start = case.take(f"{prefix}pre_image_length")
        index = picture_index(report, f"{prefix}input_ids", ids, start, vectors.shape[1], _PLACEHOLDER)
        embeds = model.model.embed_tokens(ids)
        spliced = vectors[:, index[0].clamp(min=0)]
        inputs["inputs_embeds"] = torch.where((index >= 0)[..., None], spliced, embeds)
    return inputs


def _optional(case: Case, name: str) -> Tensor | None:
    return case.take(name) if case.has(name) else None


def _check_forward(case: Case, report: Report, model: Any, prefix: str) -> None:
    inputs = _inputs(case, report, model, prefix)
    ids, padding = case.take(f"{prefix}input_ids"), inputs["attention_mask"]
    check_layout(case, report, prefix, model.config, ids, padding)
    if (embeds := inputs.get("inputs_embeds")) is not None:
        report.close(f"{prefix}inputs_embeds", embeds, case.take(f"{prefix}inputs_embeds"), case.tolerance)
    cache = GrowingCache()
    output = model(**inputs, past_key_values=cache, output_hidden_states=True)
    for number, state in enumerate(output.hidden_states):
        report.close(f"{prefix}hidden_{number}", state, case.take(f"{prefix}hidden_{number}"), case.tolerance)
    check_cache(case, report, prefix, cache)
    report.close(f"{prefix}logits", output.logits, case.take(f"{prefix}logits"), case.tolerance)
    if output.loss is not None:
        report.close(f"{prefix}loss", output.loss[None], case.take(f"{prefix}loss"), case.tolerance)


@torch.no_grad()
def incremental(case: Case, report: Report) -> None:
    """A picture's prompt, then one token at a time; and all tokens at once."""
    model: Any = whole_model(case)
    config = model.config.text_config
    check_constants(case, report, config)
    prompt, recorded = case.take("input_ids"), case.take("generated_ids")
    start, length = case.take("pre_image_length"), model.config.image_length
    index = picture_index(report, "input_ids", prompt, start, length, _PLACEHOLDER)
    picture: dict[str, Tensor] = {"pixel_values": case.take("pixel_values")[:, None], "image_token_index": index}
    steps, cache = recorded.shape[1], GrowingCache()
    ids, logits, fed = prompt, [], []
    for step in range(steps):
        positions = position_ids_of(ids, config)[..., 0 if step == 0 else -1 :]
        new = ids if step == 0 else ids[:, -1:]
        inputs: dict[str, Tensor] = picture if step == 0 else {}
        if step:
            fed.append(positions)
        output = model(input_ids=new, position_ids=positions, past_key_values=cache, logits_to_keep=1, **inputs)
        logits.append(output.logits[:, -1])
        ids = torch.cat([ids, output.logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    report.close("step_logits", torch.stack(logits, 1), case.take("step_logits"), case.tolerance)
    report.exact("generated_ids", ids[:, prompt.shape[1] :], recorded)
    report.exact("step_position_ids", torch.cat(fed, -1), case.take("step_position_ids"))
    check_cache(case, report, "cache_", cache)
    whole = torch.cat([prompt, recorded[:, :-1]], dim=1)
    picture["image_token_index"] = torch.nn.functional.pad(index, (0, steps - 1), value=-1)
    full = model(input_ids=whole, use_cache=False, **picture).logits[:, -steps:]
    report.close("full_logits_last", full, case.take("full_logits_last"), case.tolerance)
