"""What goes into a search and what comes out. S sentences, B beams per sentence, R = S × B rows, V vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from huayu.generation.hypotheses import Hypothesis

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Stepper(Protocol):
    """The model as the search sees it: rows in order sentence × beam, the prompt already read."""

    device: torch.device

    def step(self, token_ids: Tensor, segment_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Feed one token per row (each (R,) int64, ids >= V are the sentence's request words) → logits (R, W)."""

    def reorder(self, parents: Tensor) -> None:
        """Row r goes on from what row ``parents[r]`` (R,) was; parents stay within their sentence."""


@dataclass(frozen=True)
class SpecialIds:
    """Ids the search must know, and the vocabulary's size V."""

    vocab_size: int
    unk: int = 1
    bos: int = 6
    eos: int = 7
    pad: int = 0


@dataclass(frozen=True)
class Sentence:
    """What the search must know of one prompt.

    ``answers``: (segment id, number) of each answer to write, in order. ``words``: base id of each request word, whose
    token ids run from V on. ``allow_unk``: an unknown text with subscript 0 occurred in the prompt.
    ``forbidden``: ids of the vocabulary that the answer may not hold besides.
    """

    answers: tuple[tuple[int, int], ...]
    words: tuple[int, ...] = ()
    allow_unk: bool = False
    forbidden: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.answers:
            raise ValueError("a prompt must leave at least one answer to write")


@dataclass(frozen=True)
class BeamResult:
    """One sentence's answer: ``token_ids`` without the closing eos, ``answer_numbers`` alike, and all kept answers."""

    token_ids: tuple[int, ...]
    answer_numbers: tuple[int, ...]
    hypotheses: tuple[Hypothesis, ...]
    text: str | None = None


@dataclass(frozen=True)
class BeamProgress:
    """State after a step. ``stable``: per sentence, tokens that the answer is sure to begin with; they only grow.

    ``results`` is None until the last one. ``num_steps`` counts calls of the stepper.
    """

    stable: tuple[tuple[int, ...], ...]
    num_steps: int
    results: tuple[BeamResult, ...] | None = None
    texts: tuple[str, ...] | None = None
