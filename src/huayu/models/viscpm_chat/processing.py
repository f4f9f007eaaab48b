"""Pictures and texts → the tensors of VisCPM-Chat."""

# B batch, P pictures of a row, N pictures, S side in pixels

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.processing_utils import ProcessorMixin

from huayu.models.cpm_bee.packing import PackedItem, collate, pack
from huayu.models.cpm_bee.tokenization import CpmBeeTokenizer
from huayu.models.cpm_bee.vocabulary import escape
from huayu.models.pixels import squared

PLACEHOLDER = "<unk>"


class VisCPMImageProcessor(BaseImageProcessor):
    """RGB picture → S×S by PIL's bicubic filter, aspect ratio not kept, in [-1, 1]. Source: spec viscpm §3.3."""

    model_input_names = ["pixel_values"]

    def __init__(self, size: int = 224, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size

    def preprocess(self, images: Any, return_tensors: str | None = None, **kwargs: Any) -> BatchFeature:
        """One PIL picture or a list → ``pixel_values`` (N, 3, S, S) float32."""
        images = [images] if isinstance(images, Image.Image) else list(images)
        pixels = np.stack([self._pixels(image) for image in images])
        return BatchFeature({"pixel_values": pixels}, tensor_type=return_tensors)

    def _pixels(self, image: Image.Image) -> np.ndarray:
        resized = squared(image.convert("RGB"), self.size)
        return ((np.asarray(resized, dtype=np.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1)


class VisCPMChatProcessor(ProcessorMixin):
    """Image processor, vocabulary and packing of a chat turn. ``num_query_tokens`` placeholders per picture."""

    def __init__(
        self,
        image_processor: VisCPMImageProcessor | None = None,
        tokenizer: CpmBeeTokenizer | None = None,
        num_query_tokens: int = 64,
        **kwargs: Any,
    ) -> None:
        self.num_query_tokens = num_query_tokens
        super().__init__(image_processor, tokenizer, **kwargs)

    def pixel_values(self, images: Sequence[Image.Image]) -> Tensor:
        """N pictures → (N, 3, S, S) float32 in [-1, 1]."""
        return self.image_processor(list(images), return_tensors="pt")["pixel_values"]

    def chat_item(self, pictures: int, context: str, question: str, answer: str = "") -> dict[str, Any]:
        """The item of a turn: one picture as published; several as numbered leaves below ``image``; none left out.

        Texts are taken as they are: escape what a user typed. Source: spec viscpm §2.6.
        """
        slot = PLACEHOLDER * self.num_query_tokens
        image: dict[str, Any] = {}
        if pictures:
            image = {"image": slot if pictures == 1 else {str(i + 1): slot for i in range(pictures)}}
        return {**image, "context": context, "question": question, "<ans>": answer}

    def pack_chat(
        self,
        pictures: int,
        context: str,
        question: str,
        answer: str | None = None,
        *,
        for_generation: bool = True,
        max_prompt_tokens: int | None = None,
    ) -> PackedItem:
        """Pack one turn; raises as :func:`huayu.models.cpm_bee.packing.pack`."""
        item = self.chat_item(pictures, context, question, answer or "")
        return pack(item, self.tokenizer.vocabulary, for_generation=for_generation, max_prompt_tokens=max_prompt_tokens)

    def collate(self, items: Sequence[PackedItem], **options: Any) -> dict[str, Tensor]:
        """:func:`huayu.models.cpm_bee.packing.collate` with this vocabulary."""
        return collate(items, self.tokenizer.vocabulary, **options)

    def __call__(
        self,
        images: Sequence[Sequence[Image.Image]] | Image.Image | None = None,
        text: str | Sequence[str] = (),
        context: Sequence[str] | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Questions (and pictures: one list a row) → inputs of ``generate``, left-padded; user text is escaped.

        Raises ValueError for lists of different lengths and for ``return_tensors`` other than ``"pt"``.
        """
        if return_tensors != "pt":
            raise ValueError(f"return_tensors is {return_tensors!r}; only 'pt' can be made")
        questions = [text] if isinstance(text, str) else list(text)
        rows = [[images]] if isinstance(images, Image.Image) else [list(row) for row in images or [[]] * len(questions)]
        contexts = list(context or [""] * len(questions))
        if not len(questions) == len(rows) == len(contexts):
            raise ValueError("images, text and context must have one entry for each row")
        items = [
            self.pack_chat(len(row), before, escape(question))
            for row, before, question in zip(rows, contexts, questions, strict=True)
        ]
        batch = self.collate(items, padding="left", start_answer=True)
        if any(rows):
            batch["pixel_values"] = self._padded_pictures(rows)
        return BatchFeature(batch)

    def _padded_pictures(self, rows: Sequence[Sequence[Image.Image]]) -> Tensor:
        flat = self.pixel_values([image for row in rows for image in row])
        most = max(map(len, rows))
        padded = torch.zeros(len(rows), most, *flat.shape[1:])
        start = 0
        for r, row in enumerate(rows):
            padded[r, : len(row)] = flat[start : start + len(row)]
            start += len(row)
        return padded

    def decode_answer(self, token_ids: Sequence[int] | Tensor, packed: PackedItem | None = None) -> str:
        """Ids of an answer (``</s>`` and what follows dropped) → text as published: ``<`` comes out doubled."""
        ids = [int(i) for i in token_ids]
        eos = self.tokenizer.vocabulary.ids["</s>"]
        ids = ids[: ids.index(eos)] if eos in ids else ids
        return self.tokenizer.vocabulary.decode(ids, packed.answer_words if packed else None)

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "is_context", "segment_ids", "pixel_values", "image_token_index"]
