"""The library's own beam search as a stream: what every possible outcome agrees on. B rows, C candidates of a row."""

from __future__ import annotations

import queue
import threading
from collections.abc import Collection, Generator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from huayu.generation.streaming import Stopping, in_thread


def agreed(sequences: Sequence[list[int]]) -> list[int]:
    """The longest beginning that all have."""
    first, last = min(sequences), max(sequences)  # in their order the two that differ earliest
    size = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:size]


class _Agreement(StoppingCriteria):
    """Stops nothing: the library shows each step's C = 2 × beams candidates of each row here, ended ones too."""

    def __init__(self, items: queue.SimpleQueue[Any], rows: int, prompt_length: int, eos: Collection[int]) -> None:
        self.items, self.rows, self.prompt_length, self.eos = items, rows, prompt_length, eos
        self.ended: list[list[list[int]]] = [[] for _ in range(rows)]

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:  # noqa: ARG002 (as the library calls)
        answers = input_ids[:, self.prompt_length :].unflatten(0, (self.rows, -1)).tolist()
        sure = []
        for candidates, ended in zip(answers, self.ended, strict=True):
            going_on = [tokens for tokens in candidates if tokens[-1] not in self.eos]
            closed = [tokens[:-1] for tokens in candidates if tokens[-1] in self.eos]
            # An answer that has ended may yet win: nothing that it lacks is sure.
            ended[:] = [agreed([*ended, *closed])] if ended or closed else []
            sure.append(agreed([*ended, *going_on]))
        self.items.put((sure, None))
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


class _Temperature(LogitsProcessor):
    """Log probabilities of logits ÷ temperature; the library's beam search has no temperature of its own."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002 (the library's signature)
        return torch.log_softmax(scores / self.temperature, dim=-1)


def stream_beams(
    model: Any,
    inputs: Mapping[str, Any],
    *,
    num_beams: int,
    eos: Collection[int],
    temperature: float = 1.0,
    cancel: threading.Event | None = None,
    **settings: Any,
) -> Generator[tuple[list[list[int]], list[bool] | None], None, None]:
    """After each step, for each of the B rows, the token ids that its answer is sure to begin with, and None.

    The last item has the whole answers without ``eos``, and whether each ended with one. ``inputs`` and ``settings``
    go to ``model.generate``, which runs in a thread. Raises Cancelled once ``cancel`` is set.
    """
    rows, length = inputs["input_ids"].shape
    items: queue.SimpleQueue[Any] = queue.SimpleQueue()
    closed = threading.Event()
    stop = Stopping([closed] if cancel is None else [closed, cancel])
    processors = LogitsProcessorList([_Temperature(temperature)] if temperature != 1.0 else [])

    def work() -> None:
        output = model.generate(
            **inputs,
            **settings,
            do_sample=False,
            num_beams=num_beams,
            logits_processor=processors,
            stopping_criteria=StoppingCriteriaList([_Agreement(items, rows, length, eos), stop]),
        )
        answers = output[:, length:].tolist()
        ends = [next((at for at, token in enumerate(ids) if token in eos), None) for ids in answers]
        whole = [ids[:end] for ids, end in zip(answers, ends, strict=True)]
        items.put((whole, [end is not None for end in ends]))

    yield from in_thread(work, items, closed, cancel)
