"""VisualGLM as scripts for SwissArmyTransformer call it. Source: spec visualglm §6-8, 10."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from huayu.chat.glm_calls import Turns, pixels_of
from huayu.chat.glm_calls import chat as answer
from huayu.checkpoints.find import locate
from huayu.checkpoints.opening import open_model
from huayu.errors import ModelError, PromptError
from huayu.models.visualglm import VisualGLMForConditionalGeneration, published
from huayu.quantization import quantize_model


class VisualGLMModel:
    """Opens what is called ``visualglm-6b``, a sat or Hugging Face folder, a fine-tune of either, one of ours."""

    @staticmethod
    def from_pretrained(
        name: str | Path, args: Namespace | None = None, *, overwrite_args: Mapping[str, Any] | None = None
    ) -> tuple[VisualGLMForConditionalGeneration, Namespace]:
        """``(model, model_args)``: the model in evaluation mode, and ``args`` with the sizes of ``model_config.json``.

        Of ``args`` these count: ``fp16``, ``bf16`` (else float32), ``device`` (else the CPU); the others set up
        machinery that is not here. ``overwrite_args`` may say ``model_parallel_size``: ranks are joined in any case.
        Raises CheckpointError; ModelError for another model; TypeError for other ``overwrite_args``.
        """
        if odd := sorted(set(overwrite_args or ()) - {"model_parallel_size"}):
            raise TypeError(f"{odd[0]} cannot be overwritten: it is what the weights are")
        wishes = dict(vars(args)) if args else {}
        half = torch.bfloat16 if wishes.get("bf16") else torch.float16 if wishes.get("fp16") else torch.float32
        opened = open_model(locate(name), half, wishes.get("device") or "cpu")
        model: Any = opened.model
        if not isinstance(model, VisualGLMForConditionalGeneration):
            raise ModelError(f"{name} is not VisualGLM.", f"{name} 不是 VisualGLM。")
        return model, Namespace(**{**wishes, **published.settings_of(model.config, sat=True)})


FineTuneVisualGLMModel = VisualGLMModel


def chat(
    image_path: str | None,
    model: VisualGLMForConditionalGeneration,
    tokenizer: Any,
    query: str,
    history: Sequence[tuple[str, str]] | None = None,
    image: Image.Image | Tensor | None = None,
    max_length: int = 1024,
    top_p: float = 0.7,
    top_k: int = 30,
    temperature: float = 0.95,
    repetition_penalty: float = 1.2,
    invalid_slices: Sequence[slice] = (),
    english: bool = False,
    *,
    strict: bool = False,
    seed: int | None = None,
) -> tuple[str, Turns, Tensor | None]:
    """``(answer, history with it, pixels (1, 3, S, S))``; hand the last two to the next turn, with no ``image_path``.

    ``image_path``: a file, a URL, ``""`` or None; or ``image``: a picture, or the pixels. Drawn in sat's order;
    ``max_length`` counts prompt, picture and answer. ``invalid_slices``: ids not to be drawn. ``strict``: typed tags
    count, as published. Raises ImageError, PromptError.
    """
    if image_path and image is not None:
        raise PromptError("Give either image_path or image.", "image_path 与 image 只能给出一个。")
    pixels = pixels_of(model, image if image is not None else image_path)
    forbidden = [(part.start or 0, part.stop) for part in invalid_slices]
    text, turns = answer(
        model, tokenizer, pixels, query, history or (), mode="sat", max_length=max_length, top_p=top_p, top_k=top_k,
        temperature=temperature, repetition_penalty=repetition_penalty, forbidden=forbidden, english=english,
        strict=strict, seed=seed,
    )  # fmt: skip
    return text, turns, pixels


def quantize(module: torch.nn.Module, bits: int) -> torch.nn.Module:
    """Pack the four linears of each block of ``model.transformer``, or of the whole model, in place, and return it.

    sat packed vision and Q-Former too when it was given the whole model, which cost answers. Raises ModelError.
    """
    return quantize_model(module, bits)
