"""Golden cases of fine-tuning: examples as they are built, and the loss on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from huayu.data.visualglm_examples import build_example, collate
from huayu.evaluation.verify.cases import Case
from huayu.evaluation.verify.glm_models import visualglm
from huayu.evaluation.verify.report import Report
from huayu.models.chatglm.tokenization import ChatGLMTokenizer

_VOCABULARY = "ice_text.model"
# What of the logits is recorded: rows of the answer, every eighth entry.
_ROWS, _EVERY = slice(60, 72), 8


def finetune(case: Case, report: Report) -> None:
    """Ids and labels of every record, where its vocabulary lies beside the case; loss, logits and gradients."""
    config, ids, labels = case.config, case.take("input_ids"), case.take("labels")
    model: Any = visualglm(case)
    length = model.config.image_length
    path = _vocabulary(case)
    if path is None:
        report.skip("input_ids", f"there is no {_VOCABULARY}", f"缺少 {_VOCABULARY}")
        report.skip("labels", f"there is no {_VOCABULARY}", f"缺少 {_VOCABULARY}")
    else:
        tokenizer = ChatGLMTokenizer(str(path), strict=True)
        sizes = {name: config[name] for name in ("max_source_length", "max_target_length")}
        records = case.json("items.json")
        examples = [build_example(tokenizer, r["prompt"], r["label"], image_length=length, **sizes) for r in records]
        batch = collate(examples, tokenizer.pad_token_id, image_length=length, length=sum(sizes.values()))
        report.exact("input_ids", batch["input_ids"], ids)
        report.exact("labels", batch["labels"], labels)
        report.exact("pre_image", examples[-1].picture_at, config["pre_image"])
    index = torch.full_like(ids, -1)
    index[:, config["pre_image"] : config["pre_image"] + length] = torch.arange(length)
    out = model(
        input_ids=ids,
        pixel_values=case.take("images")[:, None],
        image_token_index=index,
        attention_mask=torch.ones_like(ids),  # padding on the right comes after everything
        labels=labels,
    )
    report.close("loss", out.loss[None], case.take("loss"), case.tolerance)
    rows = out.logits[:, _ROWS, ::_EVERY]
    report.close("logits_last_answer_rows", rows, case.take("logits_last_answer_rows"), case.tolerance)
    _check_gradients(report, model, out.loss)


def _check_gradients(report: Report, model: Any, loss: torch.Tensor) -> None:
    """The loss reaches every parameter that is trained by any published script, and none of it is broken."""
    loss.backward()
    unreached = [
        name
        for name, parameter in model.language_model.named_parameters()
        if parameter.grad is None or not bool(parameter.grad.isfinite().all()) or not bool(parameter.grad.any())
    ]
    count = sum(1 for _ in model.language_model.parameters())
    report.empty("gradients", unreached, f"{count}")


def _vocabulary(case: Case) -> Path | None:
    """Named by the case, in its folder, or in that of a case beside it."""
    named = case.config.get("tokenizer")
    places = [case.folder / named] if isinstance(named, str) else []
    places += [case.folder / _VOCABULARY, case.folder.parent / "m_tokenizer" / _VOCABULARY]
    places += sorted(case.folder.parent.glob(f"*/{_VOCABULARY}"))
    return next((path for path in places if path.is_file()), None)
