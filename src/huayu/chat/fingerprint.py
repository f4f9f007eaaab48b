"""What an opened VisualGLM makes of a built-in picture and question, to be compared later and elsewhere.

A library that resizes, rounds or numbers positions in another way gives fluent answers about another picture. Numbers
of each stage tell that, and where it happens.
"""

# S side of a picture, Q queries, D language width, V vocabulary

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from huayu.chat.visualglm import VisualGLMBackend
from huayu.checkpoints import atomic, checksums
from huayu.errors import CheckpointError, ModelError
from huayu.runtime import packages

FILE, PART = "selftest.json", "fingerprints"
QUESTION = "描述这张图片。"
LIBRARIES = ("torch", "transformers", "pillow", "sentencepiece")
PIXELS = 0.02  # a level of 255, normalised, is 0.015
_STEPS, _LOGITS, _NUMBERS, _POINTS = 12, 8, 32, 4
_SHARES = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 4e-2}  # of the largest number


@dataclass(frozen=True)
class Fingerprint:
    """Stages in their order.

    ``pixels`` some of (3, S, S); ``prompt`` ids; ``picture`` some of (Q, D); ``likeliest`` ids after the prompt, and
    their ``logits``; ``answer``: ids of the greedy answer, as far as rounding cannot change them; ``versions`` of the
    libraries.
    """

    pixels: list[float]
    prompt: list[int]
    picture: list[float]
    likeliest: list[int]
    logits: list[float]
    answer: list[int]
    versions: dict[str, str]


def picture() -> Image.Image:
    """96 × 72 RGB with edges, a fine pattern and slow changes; the same bytes everywhere."""
    y, x = np.mgrid[0:72, 0:96]
    red, green = x * 255 // 95, y * 255 // 71
    blue = ((x // 3 + y // 3) % 2) * 200
    pixels = np.stack([red, green, blue], -1).astype(np.uint8)
    pixels[20:50, 30:70] = (230, 40, 30)
    return Image.fromarray(pixels)


def dtype_of(backend: VisualGLMBackend) -> str:
    """The name under which its fingerprint is kept, such as ``"float16"``."""
    return str(backend.model.language_model.dtype).removeprefix("torch.")


def tolerance(dtype: str, numbers: list[float]) -> float:
    """How far numbers of this stage may be from recorded ones: machines round differently."""
    return _SHARES[dtype] * max(map(abs, numbers), default=0.0)


@torch.inference_mode()
def take(backend: VisualGLMBackend) -> Fingerprint:
    """The fingerprint in the dtype and on the device that the model has."""
    model: Any = backend.model
    processor = backend.processor
    pixels = processor.pixel_values([picture()])
    prompt = processor.chat_prompt(QUESTION, picture=True)
    inputs = {name: tensor.to(model.device) for name, tensor in processor.collate([prompt]).items()}
    embeds = model.get_image_features(pixels.to(model.device))
    ends = {"eos_token_id": backend.eos, "pad_token_id": processor.tokenizer.pad_token_id}
    written = model.generate(
        **inputs, image_embeds=embeds[None], max_new_tokens=_STEPS, do_sample=False, num_beams=1, **ends,
        output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    steps = torch.cat(written.logits).float()  # (steps, V)
    top = steps[0].topk(_LOGITS)
    flat, start = embeds.float().flatten(), pixels.shape[-1] // (2 * _POINTS)
    points = pixels[0, :, start :: 2 * start, start :: 2 * start]
    margin = 2 * tolerance(dtype_of(backend), top.values.tolist())
    return Fingerprint(
        pixels=_rounded(points),
        prompt=list(prompt.ids),
        picture=_rounded(flat[:: max(1, len(flat) // _NUMBERS)][:_NUMBERS]),
        likeliest=_sure(top.indices, top.values, margin),
        logits=_rounded(top.values),
        answer=_surely_drawn(steps, margin),
        versions={name: packages.version_of(name) or "" for name in LIBRARIES},
    )


def recorded(folder: Path) -> dict[str, Fingerprint]:
    """Those of a folder by dtype; none when nothing was recorded. Raises CheckpointError for a damaged file."""
    try:
        return {dtype: Fingerprint(**one) for dtype, one in _read(folder).get(PART, {}).items() if _SHARES[dtype]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{FILE} is not right: {error!r}", f"{FILE} 有误：{error!r}") from error


def record(folder: Path, backend: object) -> str:
    """Take a fingerprint and keep it in the folder's ``selftest.json``; returns its dtype.

    What else is in that file stays, and the list of checksums knows of the change. Raises ModelError for a model
    without fingerprints, or one that is not a folder.
    """
    if not isinstance(backend, VisualGLMBackend) or not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder.name}: fingerprints are of converted VisualGLM folders.",
            f"{folder.name}：只有转换后的 VisualGLM 文件夹才有指纹。",
        )
    dtype, text = dtype_of(backend), _read(folder)
    text[PART] = {**text.get(PART, {}), dtype: asdict(take(backend))}
    atomic.write_text(folder / FILE, json.dumps(text, ensure_ascii=False, indent=1) + "\n")
    if (folder / checksums.FILE).is_file():
        listed = json.loads((folder / checksums.FILE).read_text("utf-8"))["files"]
        checksums.write_checksums(folder, {name: one["sha256"] for name, one in listed.items() if name != FILE})
    return dtype


def _read(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def _rounded(numbers: Tensor) -> list[float]:
    return [round(number, 5) for number in numbers.flatten().tolist()]


def _sure(ids: Tensor, values: Tensor, margin: float) -> list[int]:
    """The ids from the likeliest on whose order rounding cannot change."""
    unsure = (values[:-1] - values[1:] <= margin).nonzero()
    return [int(i) for i in ids[: int(unsure[0]) if len(unsure) else len(ids) - 1]]


def _surely_drawn(steps: Tensor, margin: float) -> list[int]:
    """(steps, V) → the greedy ids before the first step at which two are nearly as likely."""
    best = steps.topk(2)
    unsure = (best.values[:, 0] - best.values[:, 1] <= margin).nonzero()
    return [int(i) for i in best.indices[: int(unsure[0]) if len(unsure) else len(steps), 0]]
