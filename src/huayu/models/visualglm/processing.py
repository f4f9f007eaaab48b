"""Pictures and texts → the tensors of VisualGLM."""

# B batch, N pictures, S side in pixels, T tokens, Q queries of a picture

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.processing_utils import ProcessorMixin

from huayu.models.chatglm.prompts import process_response
from huayu.models.chatglm.tokenization import ChatGLMTokenizer
from huayu.models.pixels import squared
from huayu.models.visualglm.prompts import Flavour, History, Parts, build, published

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class VisualGLMImageProcessor(BaseImageProcessor):
    """RGB picture → S×S by PIL's bicubic filter, aspect ratio not kept, normalised as CLIP's. Source: spec §4."""

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
        unit = np.asarray(squared(image.convert("RGB"), self.size), dtype=np.float32) / 255
        return ((unit - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1)


@dataclass(frozen=True)
class Encoded:
    """Ids of one prompt, ending in ``[gMASK] <sop>``; ``picture_at``: index of its first placeholder, or None."""

    ids: list[int]
    picture_at: int | None


class VisualGLMProcessor(ProcessorMixin):
    """Image processor, tokenizer and prompts of a turn. ``image_length`` placeholders stand for the picture.

    ``placeholder``: their token, never seen by the model: ``"unk"`` as the Hugging Face code has it, ``"pad"`` as sat.
    """

    def __init__(
        self,
        image_processor: VisualGLMImageProcessor | None = None,
        tokenizer: ChatGLMTokenizer | None = None,
        image_length: int = 32,
        placeholder: str = "unk",
        **kwargs: Any,
    ) -> None:
        if placeholder not in ("unk", "pad"):
            raise ValueError(f"placeholder is {placeholder!r}; known are 'unk' and 'pad'")
        self.image_length, self.placeholder = image_length, placeholder
        super().__init__(image_processor, tokenizer, **kwargs)

    def pixel_values(self, images: Sequence[Image.Image]) -> Tensor:
        """N pictures → (N, 3, S, S) float32."""
        return self.image_processor(list(images), return_tensors="pt")["pixel_values"]

    def encode(self, parts: Parts, *, strict: bool = False, placeholder: str | None = None) -> Encoded:
        """Ids of a prompt; each part is encoded on its own. ``strict``: typed special tokens count."""
        before, after = (
            self.tokenizer.convert_tokens_to_ids(self.tokenizer.tokenize(text, strict=strict))
            for text in (parts.before, parts.after)
        )
        end = [self.tokenizer.gmask_token_id, self.tokenizer.bos_token_id]
        if not parts.has_picture:
            return Encoded([*after, *end], None)
        pads = (placeholder or self.placeholder) == "pad"
        slot = [self.tokenizer.pad_token_id if pads else self.tokenizer.unk_token_id] * self.image_length
        return Encoded([*before, *slot, *after, *end], len(before))

    def chat_prompt(
        self, query: str, history: History = (), *, picture: bool = False, english: bool = False
    ) -> Encoded:
        """A turn as it is asked by default: what was typed is text and nothing else."""
        return self.encode(build(query, history, picture=picture, english=english))

    def published_prompt(
        self,
        query: str,
        history: History = (),
        image_path: str = "",
        *,
        flavour: Flavour,
        english: bool = False,
        has_image: bool = False,
    ) -> Encoded:
        """The strict switch: a turn as published code asks it, injections included. Raises as ``published``."""
        prompt = published(query, history, image_path, flavour=flavour, english=english, has_image=has_image)
        return self.encode(prompt.parts, strict=True, placeholder="unk" if flavour == "hf" else "pad")

    def collate(self, prompts: Sequence[Encoded]) -> dict[str, Tensor]:
        """Prompts → ``input_ids``, ``attention_mask`` (B, T), ``position_ids`` (B, 2, T), padded on the left.

        With pictures also ``image_token_index`` (B, T).
        """
        tokens = max(len(prompt.ids) for prompt in prompts)
        ids = torch.full((len(prompts), tokens), self.tokenizer.pad_token_id)
        index, positions = torch.full_like(ids, -1), ids.new_zeros(len(prompts), 2, tokens)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            start = tokens - len(prompt.ids)
            ids[row, start:], mask[row, start:] = torch.tensor(prompt.ids), 1
            positions[row, :, start:] = torch.tensor(self.tokenizer.position_rows(prompt.ids))
            if prompt.picture_at is not None:
                first = start + prompt.picture_at
                index[row, first : first + self.image_length] = torch.arange(self.image_length)
        batch = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        if any(prompt.picture_at is not None for prompt in prompts):
            batch["image_token_index"] = index
        return batch

    def __call__(
        self,
        images: Sequence[Image.Image | None] | Image.Image | None = None,
        text: str | Sequence[str] = (),
        history: Sequence[History] | None = None,
        english: bool = False,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Questions (each with one picture or None, and its earlier turns) → inputs of ``generate``.

        Raises ValueError for lists of different lengths and for ``return_tensors`` other than ``"pt"``.
        """
        if return_tensors != "pt":
            raise ValueError(f"return_tensors is {return_tensors!r}; only 'pt' can be made")
        questions = [text] if isinstance(text, str) else list(text)
        pictures = [images] if isinstance(images, Image.Image) else list(images or [None] * len(questions))
        turns = list(history or [()] * len(questions))
        if not len(questions) == len(pictures) == len(turns):
            raise ValueError("images, text and history must have one entry for each row")
        prompts = [
            self.chat_prompt(question, before, picture=picture is not None, english=english)
            for question, before, picture in zip(questions, turns, pictures, strict=True)
        ]
        batch = self.collate(prompts)
        if given := [picture for picture in pictures if picture is not None]:
            pixels = self.pixel_values(given)
            rows = torch.tensor([picture is not None for picture in pictures])
            batch["pixel_values"] = pixels.new_zeros(len(rows), 1, *pixels.shape[1:])
            batch["pixel_values"][rows, 0] = pixels
        return BatchFeature(batch)

    def decode_answer(self, token_ids: Sequence[int] | Tensor) -> str:
        """Ids of an answer (``<eop>`` and what follows dropped) → text as published."""
        ids = [int(i) for i in token_ids]
        eos = self.tokenizer.eos_token_id
        return process_response(self.tokenizer.decode(ids[: ids.index(eos)] if eos in ids else ids))

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "position_ids", "pixel_values", "image_token_index"]
