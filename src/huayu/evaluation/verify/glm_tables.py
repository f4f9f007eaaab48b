"""Golden cases of ChatGLM without weights: positions and masks of many layouts, tables of angles."""

# B rows, T tokens

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from huayu.evaluation.verify.cases import Case
from huayu.evaluation.verify.glm_cases import blocked
from huayu.evaluation.verify.report import Report
from huayu.models.chatglm.configuration import ChatGLMConfig
from huayu.models.chatglm.positions import inverse_frequencies, position_ids_of, rotary_angles

_HALF, _BRAIN = torch.float16, torch.bfloat16
# Published flow of precision → ours, and what it is cast to.
_FLOWS: dict[str, tuple[Any, torch.dtype]] = {
    "hf_fp16": ("hf_fp16", _HALF),
    "hf_fp32": ("fp32_from_fp16", torch.float32),
    "hf_bf16_broken": ((_HALF, _BRAIN), _BRAIN),
    "sat_fp32": ("fp32", torch.float32),
    "sat_fp16": ("fp32_from_fp16", _HALF),
}
_BASE = 10000


def rope(case: Case, report: Report) -> None:
    """Cosine and sine in every published flow of precision."""
    dim, positions = case.config["rotary_dim"], case.take("positions")
    report.exact("base", _BASE, case.config["base"])
    report.exact("head_dim", 2 * dim, case.config["head_dim"])
    report.close("hf_inv_freq_fp16", inverse_frequencies(dim, _HALF), case.take("hf_inv_freq_fp16"), case.tolerance)
    for published, (flow, dtype) in _FLOWS.items():
        if case.has(f"{published}.cos"):
            for name, table in zip(("cos", "sin"), rotary_angles(positions, dim, flow), strict=True):
                recorded = case.take(f"{published}.{name}")
                report.close(f"{published}.{name}", table.to(dtype), recorded, case.tolerance)


def positions(case: Case, report: Report) -> None:
    """Every layout of tokens, in the ways of the Hugging Face model, its tokenizer, sat and sat's chat."""
    config, about = case.config, case.json("meta.json")
    ids = {"bos_token_id": config["bos"], "gmask_token_id": config["gmask"], "mask_token_id": config["mask"]}
    model = ChatGLMConfig(**ids, pad_token_id=config["pad"])
    report.exact("n", len(about), config["n"])
    for layout, meta in about.items():
        _check_layout(case, report, layout, meta, model)


def _check_layout(case: Case, report: Report, layout: str, meta: dict[str, Any], model: ChatGLMConfig) -> None:
    ids = case.take(f"{layout}.input_ids")
    report.exact(f"{layout}.input_ids", ids, meta["ids"])
    report.exact(f"{layout}.errors", _published_errors(ids.tolist(), model), meta["errors"])
    pad: Any = model.pad_token_id
    leading = ((ids != pad).long().cumsum(1) > 0).long()
    if case.has(f"{layout}.padding_mask"):
        report.exact(f"{layout}.padding_mask", leading, case.take(f"{layout}.padding_mask"))
    padding = leading if case.has(f"{layout}.padding_mask") else None
    longer = torch.nn.functional.pad(ids, (0, _slots(case, layout, ids)), value=-1)
    made = {
        "hf.mask_bool": lambda: blocked(ids, model, padding),
        "hf.position_ids": lambda: position_ids_of(ids, model, torch.ones_like(ids)),
        "sat.mask_visible": lambda: ~blocked(ids, model, leading),
        "sat.position_ids": lambda: position_ids_of(ids, model),
        "sat_chat.mask_visible": lambda: ~blocked(longer, model),
        "sat_chat.position_ids": lambda: position_ids_of(longer, model),
        "tokenizer.position_ids": lambda: position_ids_of(ids, model, padding),
        "tokenizer.attention_mask": lambda: leading,
    }
    for name, ours in made.items():
        if case.has(f"{layout}.{name}"):
            recorded = case.take(f"{layout}.{name}")
            compare = report.exact if not recorded.is_floating_point() else partial(report.close, tolerance=0.0)
            compare(f"{layout}.{name}", ours().long(), recorded)
    try:
        position_ids_of(ids, model)
        raised = False
    except ValueError:
        raised = True
    report.exact(f"{layout}.raises", raised, "hf.position_ids" in meta["errors"])


def _slots(case: Case, layout: str, ids: Tensor) -> int:
    """Tokens still to be written in sat's chat, which lays out the whole buffer at once."""
    name = f"{layout}.sat_chat.position_ids"
    return case.take(name).shape[-1] - ids.shape[-1] if case.has(name) else 0


def _published_errors(rows: list[list[int]], model: ChatGLMConfig) -> dict[str, str]:
    """What published code raised: a token looked for in a row that has none; sat takes one kind of mask a batch."""
    bos, gmask, mask = model.bos_token_id, model.gmask_token_id, model.mask_token_id
    errors: dict[str, str] = {}

    def look(name: str, wanted: int | None, row: list[int]) -> None:
        if wanted not in row:
            errors.setdefault(name, f"ValueError('{wanted} is not in list')")

    kind = gmask if any(gmask in row for row in rows) else mask
    for row in rows:
        look("hf.mask", bos, row)
        look("hf.position_ids", bos, row)
        look("hf.position_ids", gmask if gmask in row else mask, row)
        look("sat", bos, row)
        look("sat", kind, row)
    return errors
