"""Question and answer about one picture → what VisualGLM is fine-tuned on, laid out as published.

``<img>`` · placeholders · ``</img>问：…答：`` · [gMASK] · <sop> · answer · <eop>, then padding on the right. The loss
is on <sop>, the answer and <eop>. Source: spec visualglm §9.
"""

# B examples, T tokens, N pictures

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from huayu.models.visualglm.prompts import History, build

IGNORED = -100


@dataclass(frozen=True)
class Example:
    """Ids of one example and, for each, the id to learn (-100: none); ``picture_at``: its first placeholder or None."""

    input_ids: list[int]
    labels: list[int]
    picture_at: int | None


def build_example(
    tokenizer: Any,
    question: str,
    answer: str,
    *,
    history: History = (),
    picture: bool = True,
    english: bool = False,
    image_length: int = 32,
    max_source_length: int = 64,
    max_target_length: int = 256,
) -> Example:
    """One example; ``tokenizer`` is a :class:`huayu.models.chatglm.tokenization.ChatGLMTokenizer`.

    The published code knows only a Chinese question about a picture; ``history``, ``english`` and no ``picture`` are
    laid out as they are asked.

    What is too long is cut at its end, as published: the source with its placeholders to ``max_source_length - 1``
    tokens, even within ``答：``, the answer to ``max_target_length - 2``. Raises ValueError when the picture itself
    does not fit.
    """
    parts = build(question, history, picture=picture, english=english)
    slot = [tokenizer.pad_token_id] * image_length if picture else []
    before, after, target = (
        tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)) for text in (parts.before, parts.after, answer)
    )
    if len(before) + len(slot) > max_source_length - 1:
        raise ValueError(f"max_source_length {max_source_length} has no room for {image_length} picture tokens")
    source = [*before, *slot, *after][: max_source_length - 1]
    learned = [tokenizer.bos_token_id, *target[: max_target_length - 2], tokenizer.eos_token_id]
    context = [*source, tokenizer.gmask_token_id]
    return Example([*context, *learned], [IGNORED] * len(context) + learned, len(before) if picture else None)


def collate(
    examples: Sequence[Example], pad_token_id: int, *, image_length: int = 32, length: int | None = None
) -> dict[str, Tensor]:
    """``input_ids``, ``labels``, ``attention_mask``, ``image_token_index`` (B, T), padded on the right.

    ``length``: T, None for that of the longest; published code pads to ``max_source_length + max_target_length``.
    """
    length = length or max(len(example.input_ids) for example in examples)
    shape = (len(examples), length)
    ids, labels = torch.full(shape, pad_token_id), torch.full(shape, IGNORED)
    mask, index = torch.zeros(shape, dtype=torch.long), torch.full(shape, -1)
    for row, example in enumerate(examples):
        count, first = len(example.input_ids), example.picture_at
        ids[row, :count], labels[row, :count] = torch.tensor(example.input_ids), torch.tensor(example.labels)
        mask[row, :count] = 1
        if first is not None:
            index[row, first : first + image_length] = torch.arange(image_length)
    return {"input_ids": ids, "labels": labels, "attention_mask": mask, "image_token_index": index}
