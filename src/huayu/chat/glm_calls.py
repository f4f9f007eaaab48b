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


def chat(
    model: VisualGLMForConditionalGeneration,
    tokenizer: ChatGLMTokenizer,
    image_path: str | Image.Image | None,
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
    image_path: str | Image.Image | None,
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
    seed: int | None = None,
) -> Iterator[tuple[str, Turns]]:
    """After every token the answer so far, and the history with it.

    ``image_path``: a file, a URL or a picture; ``""`` or None for none. ``max_length`` counts prompt, picture and
    answer. ``mode``: the published order of sampling, ``"hf"`` or ``"sat"``. ``strict``: tags and special tokens that
    were typed count, as in published code; the picture is ``image_path`` all the same. The last token is shown even
    when the length ends the answer. Raises ImageError; PromptError for a prompt longer than ``max_length``.
    Source: spec visualglm §6, 7, 11.
    """
    turns = [*map(_pair, history)]
    inputs = _inputs(model, tokenizer, image_path, query, turns, strict)
    tokens, text = inputs["input_ids"].shape[1], cast(Any, model.config.text_config)
    room = min(max_length, text.max_sequence_length) - tokens
    if room < 1:
        raise PromptError(
            f"The prompt has {tokens} tokens; max_length is {max_length}, answer included.",
            f"提示共 {tokens} 个词元；max_length 为 {max_length}，其中包括答案。",
        )
    rows = (tokenizer.vocab_size, int(text.vocab_size))  # those that are no tokens
    unspoken = (rows,) if rows[0] < rows[1] else ()
    sampling = GLMSampling(mode, temperature, top_k, top_p, repetition_penalty, not do_sample, unspoken, seed)
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
    model: Any, tokenizer: Any, image_path: str | Image.Image | None, query: str, turns: Turns, strict: bool
) -> dict[str, Tensor]:
    """What ``generate`` takes, the picture read."""
    config = model.config
    pictures = VisualGLMImageProcessor(config.vision_config.image_size)
    processor = VisualGLMProcessor(pictures, tokenizer, config.image_length)
    picture = None if image_path is None or image_path == "" else open_picture(image_path)
    if strict:
        path = image_path if isinstance(image_path, str) else ""
        prompt = processor.published_prompt(query, turns, path, flavour="hf", has_image=picture is not None)
    else:
        prompt = processor.chat_prompt(query, turns, picture=picture is not None)
    inputs = {name: tensor.to(model.device) for name, tensor in processor.collate([prompt]).items()}
    if picture is not None:
        with torch.inference_mode():
            pixels = processor.pixel_values([picture]).to(model.device)
            inputs["image_embeds"] = model.get_image_features(pixels)[None]
    return inputs


def _pair(turn: Sequence[str]) -> tuple[str, str]:
    asked, answer = turn
    return asked, answer
