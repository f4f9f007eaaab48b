"""``model.generate`` as an iterator that can be stopped at any token. B rows."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from huayu.errors import Cancelled
from huayu.generation.cache import GrowingCache
from huayu.generation.sampling import Sampling
from huayu.models.chatglm.generation import ChatGLMGenerationMixin
from huayu.models.cpm_bee.generation import PackedGenerationMixin

_HALF_CHARACTER = "\ufffd"


class _Queue(BaseStreamer):
    """Passes on every step's tokens, but not the prompt."""

    def __init__(self) -> None:
        self.items: queue.SimpleQueue[list[int] | BaseException | None] = queue.SimpleQueue()
        self._is_prompt = True

    def put(self, value: Tensor) -> None:
        if not self._is_prompt:
            self.items.put(value.tolist())
        self._is_prompt = False

    def end(self) -> None:
        """The thread says when it has ended, which is later."""


class Stopping(StoppingCriteria):
    """For ``stopping_criteria``: ends all rows at their next token once any of ``events`` is set."""

    def __init__(self, events: Sequence[threading.Event]) -> None:
        self.events = events

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:  # noqa: ARG002 (as the library calls)
        stop = any(event.is_set() for event in self.events)
        return torch.full((input_ids.shape[0],), stop, device=input_ids.device)


def stream_ids(
    model: Any,
    inputs: Mapping[str, Any],
    *,
    sampling: Sampling | None = None,
    cancel: threading.Event | None = None,
    processors: Sequence[LogitsProcessor | None] = (),
    **settings: Any,
) -> Generator[list[int], None, None]:
    """Each step's token ids, one for each of the B rows (a row that has ended goes on with padding).

    ``inputs`` and ``settings`` go to ``model.generate``, which runs in a thread of its own; ``sampling`` None takes
    the likeliest token, after ``processors`` have changed the logits, in their order. No global random state is used.
    Raises Cancelled once ``cancel`` is set, TypeError for settings of ``generate`` that are spoken for (beams,
    ``do_sample``), and whatever the thread raises. Closing the iterator stops the thread at its next token.
    """
    taken = {"do_sample", "num_beams", "streamer", "stopping_criteria", "logits_processor"} & set(settings)
    if taken:
        raise TypeError(f"these are not for the caller to set: {', '.join(sorted(taken))}")
    if isinstance(model, PackedGenerationMixin | ChatGLMGenerationMixin) and "past_key_values" not in settings:
        settings["past_key_values"] = GrowingCache()
    closed, steps = threading.Event(), _Queue()
    events = [closed] if cancel is None else [closed, cancel]
    settings |= {
        "do_sample": False,
        "num_beams": 1,
        "streamer": steps,
        "stopping_criteria": StoppingCriteriaList([Stopping(events)]),
        "logits_processor": LogitsProcessorList(
            [*filter(None, processors), *(sampling.processors() if sampling else [])]
        ),
    }

    yield from in_thread(lambda: model.generate(**inputs, **settings), steps.items, closed, cancel)


def in_thread(
    work: Callable[[], Any], items: queue.SimpleQueue[Any], closed: threading.Event, cancel: threading.Event | None
) -> Generator[Any, None, None]:
    """What ``work``, in a thread of its own, puts into ``items``; ``closed`` is set when nobody takes more.

    Raises Cancelled once ``cancel`` is set, and whatever ``work`` raises. Returns when the thread has ended.
    """

    def run() -> None:
        try:
            work()
            items.put(None)
        except BaseException as error:
            items.put(error)

    thread = threading.Thread(target=run, name="huayu-generate", daemon=True)
    thread.start()
    try:
        while (item := items.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            if cancel is not None and cancel.is_set():
                raise Cancelled
            yield item
    finally:
        closed.set()
        thread.join()


def stream_generate(
    model: Any,
    inputs: Mapping[str, Any],
    *,
    decode: Callable[[list[int]], str],
    stop: Sequence[str] = (),
    sampling: Sampling | None = None,
    cancel: threading.Event | None = None,
    **settings: Any,
) -> Generator[str, None, None]:
    """Pieces of one answer's text; joined they are ``decode`` of all its ids, cut before the first of ``stop``.

    ``inputs`` hold one row. ``decode`` turns the answer's ids (without the closing eos) into text; a piece never ends
    in half a character or in what may become a stop string. Otherwise as :func:`stream_ids`.
    """
    eos = _eos_ids(model, settings)
    ids: list[int] = []
    shown = 0
    text = ""
    with closing(stream_ids(model, inputs, sampling=sampling, cancel=cancel, **settings)) as steps:
        for (token,) in steps:
            if token in eos:
                break
            ids.append(token)
            text = decode(ids)
            end, stopped = _sure_length(text, stop)
            if end > shown:
                yield text[shown:end]
                shown = end
            if stopped:
                return
    if len(text) > shown:
        yield text[shown:]


def _eos_ids(model: Any, settings: Mapping[str, Any]) -> set[int]:
    configs = (settings.get("generation_config"), model.generation_config)
    named = [settings["eos_token_id"]] if "eos_token_id" in settings else [c.eos_token_id for c in configs if c]
    eos = next((value for value in named if value is not None), ())
    return {int(token) for token in torch.as_tensor(eos).flatten().tolist()}


def _sure_length(text: str, stop: Sequence[str]) -> tuple[int, bool]:
    """How much of ``text`` can be shown, and whether a stop string ended it."""
    found = [(at + len(word), at) for word in stop if word and (at := text.find(word)) >= 0]
    if found:
        return min(found)[1], True
    whole = len(text.rstrip(_HALF_CHARACTER))
    held = max((_overlap(text, word) for word in stop), default=0)
    return min(whole, len(text) - held), False


def _overlap(text: str, word: str) -> int:
    """Length of the longest end of ``text`` that ``word`` begins with."""
    return next((size for size in range(min(len(word), len(text)), 0, -1) if text.endswith(word[:size])), 0)
