"""From a batch's steps of token ids to rows that begin, go on and end. B rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from huayu.chat.backend import Finish
from huayu.chat.options import Settings
from huayu.generation.penalties import Penalties
from huayu.generation.sampling import Sampling

# A row, all its tokens so far that are sure, and why it ended if it did.
Written = tuple[int, Sequence[int], Finish | None]


def sampling_of(settings: Settings) -> Sampling | None:
    """How to draw, or None for the likeliest token."""
    if settings.search != "sample":
        return None
    return Sampling(settings.temperature, settings.top_k, settings.top_p, settings.min_p, settings.seed)


def penalties_of(settings: Settings) -> Penalties | None:
    """Against repetition, for one answer or batch; None where none is asked for."""
    frequency, presence = settings.frequency_penalty, settings.presence_penalty
    return Penalties(frequency, presence) if frequency or presence else None


def follow(steps: Iterable[Sequence[int]], rows: int, eos: Collection[int], max_new_tokens: int) -> Iterator[Written]:
    """Each step's ids, one for each row → what is new; a row ends with an ``eos`` id (not passed on) or its length."""
    written: list[list[int]] = [[] for _ in range(rows)]
    ended = [False] * rows
    for step in steps:
        for row, token in enumerate(step):
            if ended[row]:
                continue
            finish: Finish | None = None
            if token in eos:
                finish = "stop"
            else:
                written[row].append(token)
                if len(written[row]) == max_new_tokens:
                    finish = "length"
            ended[row] = finish is not None
            yield row, written[row], finish
