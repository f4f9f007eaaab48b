"""Rows of a user's data → batches that a chat model is trained on, for each family.

Of a row every turn is one example, asked after the turns before it. Only the answer is learnt.
"""

# B examples, P pictures, Q queries, S side in pixels, T tokens

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from huayu.data.pictures import open_picture
from huayu.data.rows import Picture, Record
from huayu.errors import ImageError, ModelError
from huayu.runtime.language import language_of
from huayu.training.loop import Batch

_LOG = logging.getLogger("huayu")
MAX_TOKENS = 1024  # of one example; what is longer is cut


@dataclass(frozen=True)
class Example:
    """One question about ``picture`` (None: no picture) after ``before``, with the answer to learn."""

    picture: Picture | None
    before: tuple[tuple[str, str], ...]
    question: str
    answer: str


def examples_of(records: Sequence[Record]) -> list[Example]:
    """Every turn of every row."""
    return [
        Example(record.picture, record.turns[:at], question, answer)
        for record in records
        for at, (question, answer) in enumerate(record.turns)
    ]


class Batcher:
    """Examples → the tensors of one family's model."""

    def __init__(self, backend: Any) -> None:
        makers = {"viscpm_chat": _viscpm, "visualglm": _visualglm}
        kind = backend.model.config.model_type
        if kind not in makers:
            raise ModelError(f"{backend.name} cannot be fine-tuned here.", f"这里无法微调 {backend.name}。")
        self._make, self.processor = makers[kind], backend.processor

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Inputs and ``labels`` (B, T); pictures, where there are some, as ``pixel_values`` (B, 1, 3, S, S)."""
        examples, pictures = self._opened(examples)
        batch = self._make(self.processor, examples)
        if any(picture is not None for picture in pictures):
            shape = next(picture.shape for picture in pictures if picture is not None)
            batch["pixel_values"] = torch.stack([torch.zeros(shape) if p is None else p for p in pictures])[:, None]
        else:
            batch.pop("image_token_index", None)
        return batch

    def _opened(self, examples: Sequence[Example]) -> tuple[list[Example], list[Tensor | None]]:
        """An example whose picture cannot be opened gives its place to the first of the batch whose picture can."""
        found: list[tuple[Example, Tensor | None] | ImageError] = []
        for example in examples:
            try:
                found.append((example, self._pixels(example.picture)))
            except ImageError as problem:
                _LOG.warning("%s; another row takes its place", problem)
                found.append(problem)
        good = next((pair for pair in found if isinstance(pair, tuple)), None)
        if good is None:
            raise next(problem for problem in found if isinstance(problem, ImageError))
        pairs = [pair if isinstance(pair, tuple) else good for pair in found]
        return [example for example, _ in pairs], [pixels for _, pixels in pairs]

    def _pixels(self, picture: Picture | None) -> Tensor | None:
        if picture is None:
            return None
        pixels: Tensor = self.processor.pixel_values([open_picture(picture)])[0]
        return pixels


def _viscpm(processor: Any, examples: Sequence[Example]) -> Batch:
    """Source: spec viscpm §2.5, §6."""
    from huayu.models.cpm_bee.vocabulary import escape

    items = []
    for example in examples:
        context = "".join(f"User: {question}\nAI: {answer}\n" for question, answer in example.before)
        words = (escape(text) for text in (context, example.question, example.answer))
        items.append(processor.pack_chat(int(example.picture is not None), *words, for_generation=False))
    batch: Batch = processor.collate(items, padding="right", with_labels=True)
    return batch


def _visualglm(processor: Any, examples: Sequence[Example]) -> Batch:
    """Source: spec visualglm §9."""
    from huayu.data.visualglm_examples import build_example, collate

    slots = processor.image_length
    built = [
        build_example(
            processor.tokenizer,
            example.question,
            example.answer,
            history=example.before,
            picture=example.picture is not None,
            english=language_of(example.question) == "en",
            image_length=slots,
            max_source_length=MAX_TOKENS // 2,
            max_target_length=MAX_TOKENS // 2,
        )
        for example in examples
    ]
    return collate(built, processor.tokenizer.pad_token_id, image_length=slots)
