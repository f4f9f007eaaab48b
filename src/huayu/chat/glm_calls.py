"""``model.chat`` and ``model.stream_chat`` with the arguments and results of the published VisualGLM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import torch
from PIL import Image
from torch import Tensor

from huayu.chat.visualglm import PublishedSteps
from huayu.data.pictures import open_picture
from huayu.errors import PromptError
from huayu.generation.glm_sampling import GLMSampling
from huayu.generation.streaming import stream_ids
from huayu.models.chatglm.prompts import process_response
from huayu.models.visualglm.processing import VisualGLMImageProcessor, VisualGLMProcessor

if TYPE_CHECKING:
    from huayu.models.chatglm import ChatGLMTokenizer
    from huayu.models.visualglm import VisualGLMForConditionalGeneration

Turns = list[tuple[str, str]]
Shown = str | Image.Image | Tensor | None


def chat(
    model: VisualGLMForConditionalGeneration,
    tokenizer: ChatGLMTokenizer,
    image_path: Shown,
    query: str,
    history: Sequence[tuple[str, str]] = (),
    **settings: Any,
) -> tuple[str, Turns]:
    """The answer, and the history with this turn added; arguments and errors as :func:`stream_chat`."""
    answer, turns = "", [*map(_pair, history), (query, "")]
    for answer, turns in stream_chat(model, tokenizer, image_path, query, history, **settings):  # noqa: B007
        pass
    return answer, turns


def stream_chat(
    model: VisualGLMForConditionalGeneration,
    tokenizer: ChatGLMTokenizer,
    image_path: Shown,
    query: str,
    history: Sequence[tuple[str, str]] = (),
    *,
    max_length: int = 2048,
    do_sample: bool = True,
    top_p: float = 0.4,
    top_k: int = 100,
    temperature: float = 0.8,
    repetition_penalty: float = 1.2,
    mode: str = "hf",
    strict: bool = False,
    english: bool = False,
    forbidden: Sequence[tuple[int, int]] = (),
    seed: int | None = None,
) -> Iterator[tuple[str, Turns]]:
    """After every token the answer so far, and the history with it.

    ``image_path``: a file, a URL, a picture, or its pixels (1, 3, S, S); ``""`` or None for none. ``english``: the
    published English prompt. ``forbidden``: ranges of ids (first, end) not to be drawn. ``max_length`` counts
    prompt, picture and answer. ``mode``: the published order of sampling, ``"hf"`` or ``"sat"``. ``strict``: tags and
    special tokens that were typed count, as in published code of that ``mode``; the picture is ``image_path`` all the
    same. The last token is shown even when the length ends the answer. Raises ImageError; PromptError for a prompt
    longer than ``max_length``. Source: spec visualglm §6, 7, 11.
    """
    turns = [*map(_pair, history)]
    inputs = _inputs(model, tokenizer, image_path, query, turns, mode if strict else None, english)
    tokens, text = inputs["input_ids"].shape[1], cast(Any, model.config.text_config)
    room = min(max_length, text.max_sequence_length) - tokens
    if room < 1:
        raise PromptError(
            f"The prompt has {tokens} tokens; max_length is {max_length}, answer included.",
            f"提示共 {tokens} 个词元；max_length 为 {max_length}，其中包括答案。",
        )
    rows = (tokenizer.vocab_size, int(text.vocab_size))  # those that are no tokens
    never = (*forbidden, *([rows] if rows[0] < rows[1] else ()))
    sampling = GLMSampling(mode, temperature, top_k, top_p, repetition_penalty, not do_sample, never, seed)
    steps: Any = PublishedSteps(sampling, tokens)
    ends: dict[str, Any] = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    ids: list[int] = []
    with closing(stream_ids(model, inputs, sampling=steps, max_new_tokens=room, **ends)) as written:
        for (token,) in written:
            if token == tokenizer.eos_token_id:
                return
            ids.append(token)
            answer = process_response(tokenizer.decode(ids))
            yield answer, [*turns, (query, answer)]


def _inputs(
    model: Any, tokenizer: Any, image_path: Shown, query: str, turns: Turns, strict: Any, english: bool
) -> dict[str, Tensor]:
    """What ``generate`` takes, the picture read. ``strict``: whose prompt to follow to the letter, or None."""
    config = model.config
    processor = VisualGLMProcessor(
        VisualGLMImageProcessor(config.vision_config.image_size), tokenizer, config.image_length
    )
    pixels = pixels_of(model, image_path)
    if strict:
        path = image_path if isinstance(image_path, str) else ""
        shown = pixels is not None and not path
        prompt = processor.published_prompt(query, turns, path, flavour=strict, english=english, has_image=shown)
    else:
        prompt = processor.chat_prompt(query, turns, picture=pixels is not None, english=english)
    inputs = {name: tensor.to(model.device) for name, tensor in processor.collate([prompt]).items()}
    if pixels is not None:
        with torch.inference_mode():
            inputs["image_embeds"] = model.get_image_features(pixels.to(model.device))[None]
    return inputs


def pixels_of(model: VisualGLMForConditionalGeneration, image: Shown) -> Tensor | None:
    """(1, 3, S, S) float32 of a picture as the model wants it; pixels as they are; None for none. Raises ImageError."""
    if image is None or isinstance(image, Tensor):
        return image
    side = cast(Any, model.config.vision_config).image_size
    opened = None if image == "" else open_picture(image)
    return None if opened is None else VisualGLMImageProcessor(side)([opened], return_tensors="pt")["pixel_values"]


def _pair(turn: Sequence[str]) -> tuple[str, str]:
    asked, answer = turn
    return asked, answer
