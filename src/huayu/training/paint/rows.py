"""Pictures and captions → latents and states of words, each computed once."""

# N pictures, T tokens, n tokens of one text, D width of the text encoder, C channels of a latent, h w its sides

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from huayu.data.pictures import open_picture
from huayu.data.records import Fault, Record, read_records
from huayu.errors import ModelError
from huayu.models.cpm_bee.vocabulary import escape
from huayu.models.viscpm_paint.pictures import to_pixels
from huayu.models.viscpm_paint.prompts import PromptEncoder

_LOG = logging.getLogger("huayu")


def read_captions(file: str, pictures: str, bad_rows: str) -> list[Record]:
    """Rows with a picture; its caption is the answer of the last turn. Bad rows are skipped with a word, or ("stop")
    a ModelError."""
    found = []
    for row in read_records(file, pictures=pictures or None):
        if isinstance(row, Record) and row.picture is not None:
            found.append(row)
        elif isinstance(row, Fault) and bad_rows == "stop":
            raise ModelError(str(row), f"{row.file}：第 {row.row} 行：{row.field}：{row.zh}")
        elif isinstance(row, Fault):
            _LOG.warning("%s; skipped", row)
    return found


def caption_of(record: Record) -> str:
    """What the picture is to be painted from."""
    return record.turns[-1][1]


class _AsTheyAre(nn.Identity):
    """In the place of a conditioning head, which is still to learn."""

    dtype = torch.float32


class Words:
    """States of the text encoder for every text, on the CPU: (n, D) of its tokens and (D,) of a pad."""

    def __init__(self, texts: Sequence[str], tokenizer: Any, text_encoder: Any) -> None:
        encoder = PromptEncoder()
        encoder.encode_typed(texts, tokenizer, text_encoder, _AsTheyAre())
        self.known = dict(encoder.known)

    def __getitem__(self, text: str) -> tuple[Tensor, Tensor]:
        return self.known[escape(text)]

    def batch(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """States (N, T, D), padded by the state of a pad, and which are the texts' own (N, T)."""
        rows = [self[text] for text in texts]
        width = max(len(states) for states, _ in rows)
        states = torch.stack([torch.cat([own, pad.expand(width - len(own), -1)]) for own, pad in rows])
        return states, torch.stack([torch.arange(width) < len(own) for own, _ in rows])


@torch.no_grad()
def encode_pictures(records: Sequence[Record], vae: Any, size: tuple[int, int], device: torch.device) -> Tensor:
    """Mean and deviation of each picture's latents, scaled (N, 2, C, h, w) float16 on the CPU.

    Pictures are cut to the shape of ``size`` (width, height) around their middle.
    """
    found = []
    for record in records:
        picture = ImageOps.fit(open_picture(_given(record)), size, Image.Resampling.LANCZOS)
        latents = vae.encode(to_pixels(picture, size).to(device, vae.dtype)).latent_dist
        found.append((torch.cat([latents.mean, latents.std]) * vae.config.scaling_factor).half().cpu())
    return torch.stack(found)


def _given(record: Record) -> Path | Any:
    assert record.picture is not None  # see read_captions
    return record.picture
