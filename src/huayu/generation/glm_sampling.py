"""The two orders in which published VisualGLM code turns logits into a draw. R rows, V vocabulary, T tokens so far.

``"hf"``: the Hugging Face model. Repetition penalty over prompt and answer, guard against NaN, temperature, top-k,
top-p. ``"sat"``: SwissArmyTransformer. The penalty covers the answer alone and divides whatever the sign, so that a
negative logit becomes *more* likely; top-k keeps ties; without top-k there is no top-p either; what is removed gets
-65504 instead of -inf. Source: spec visualglm §7.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

MODES = ("hf", "sat")
REMOVED = -65504.0
CHINESE = (63823, 130000)
"""Ids of the Chinese part of the vocabulary, which an English chat forbids: first, end."""
# What every row becomes when one logit is no number: token 5 alone.
_SAFE_TOKEN, _SAFE_SCORE = 5, 5e4


@dataclass(frozen=True)
class GLMSampling:
    """How to draw the next token, with the defaults of the published chat.

    ``mode``: ``"hf"`` or ``"sat"``; ``temperature`` > 0; ``top_k`` 0 for all; ``top_p`` of (0, 1]; ``greedy`` takes the
    likeliest instead. ``forbidden``: ranges of ids (first, end) never to be drawn. The same ``seed`` gives the same
    draws as ``torch.manual_seed`` gives published code on the CPU; None is another each time. Raises ValueError.
    """

    mode: str = "hf"
    temperature: float = 0.8
    top_k: int = 100
    top_p: float = 0.4
    repetition_penalty: float = 1.2
    greedy: bool = False
    forbidden: tuple[tuple[int, int], ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {self.mode!r}")
        if self.temperature <= 0 or self.repetition_penalty <= 0:
            raise ValueError("temperature and repetition_penalty must be above 0")
        if self.top_k < 0:
            raise ValueError(f"top_k must not be negative, as {self.top_k} is")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], not {self.top_p}")
        if any(not 0 <= first < end for first, end in self.forbidden):
            raise ValueError(f"forbidden must be ranges (first, end), not {self.forbidden}")

    def scores(self, prompt_tokens: int) -> LogitsProcessorList:
        """The steps that filter logits (R, V), given ids (R, T) whose first ``prompt_tokens`` are the prompt."""
        steps = LogitsProcessorList()
        if self.mode == "sat":
            steps.append(SatScores(self, prompt_tokens))
            return steps
        if self.repetition_penalty != 1.0:
            steps.append(RepetitionPenaltyLogitsProcessor(float(self.repetition_penalty)))
        steps.append(Guard())
        if self.forbidden:
            steps.append(Forbid(self.forbidden, -torch.inf))
        if self.greedy:
            return steps
        if self.temperature != 1.0:
            steps.append(TemperatureLogitsWarper(float(self.temperature)))
        if self.top_k:
            steps.append(TopKLogitsWarper(self.top_k))
        if self.top_p < 1.0:
            steps.append(TopPLogitsWarper(float(self.top_p)))
        return steps

    def processors(self, prompt_tokens: int) -> LogitsProcessorList:
        """For ``generate(do_sample=False, logits_processor=…)``, whose arg-max then takes what was drawn."""
        steps = self.scores(prompt_tokens)
        if not self.greedy:
            steps.append(DrawAsPublished(self.seed))
        return steps


class Guard(LogitsProcessor):
    """Scores with a NaN or +inf anywhere become 0, and 5e4 for token 5, in every row."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002 (the library's signature)
        if not bool((scores.isnan() | scores.isposinf()).any()):
            return scores
        scores = torch.zeros_like(scores)
        scores[:, _SAFE_TOKEN] = _SAFE_SCORE
        return scores


class Forbid(LogitsProcessor):
    """Ranges of ids get ``value``."""

    def __init__(self, ranges: tuple[tuple[int, int], ...], value: float) -> None:
        self.ranges, self.value = ranges, value

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        scores = scores.clone()
        for first, end in self.ranges:
            scores[:, first:end] = self.value
        return scores


class SatScores(LogitsProcessor):
    """Everything that sat does before its softmax. Raises ValueError for NaN."""

    def __init__(self, sampling: GLMSampling, prompt_tokens: int) -> None:
        self.sampling, self.prompt_tokens = sampling, prompt_tokens
        self.forbid = Forbid(sampling.forbidden, REMOVED)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if bool(scores.isnan().any()):
            raise ValueError("nan in logits")
        sampling = self.sampling
        divisor = torch.ones_like(scores, dtype=torch.float32)
        divisor.scatter_(1, input_ids[:, self.prompt_tokens :], sampling.repetition_penalty)
        scores = self.forbid(input_ids, scores.float() / (divisor * sampling.temperature))
        top_k = 1 if sampling.greedy else min(sampling.top_k, scores.shape[1])
        if not top_k:
            return scores
        scores = scores.masked_fill(scores < scores.topk(top_k)[0][:, -1:], REMOVED)
        ordered, order = scores.sort(descending=True)
        beyond = ordered.softmax(dim=-1).cumsum(dim=-1) > sampling.top_p
        # The token that crosses the line stays, and with it the first one always.
        removed = torch.zeros_like(beyond).scatter(1, order[:, 1:], beyond[:, :-1])
        return scores.masked_fill(removed, REMOVED)


class DrawAsPublished(LogitsProcessor):
    """One ``torch.multinomial`` for all rows, from a random state of its own; leaves only what was drawn."""

    def __init__(self, seed: int | None = None) -> None:
        self.seed = torch.Generator().seed() if seed is None else seed
        self.generator: torch.Generator | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        """Scores (R, V) → 0 for the token drawn, -inf elsewhere."""
        if self.generator is None:
            self.generator = torch.Generator(scores.device).manual_seed(self.seed)
        token = torch.multinomial(scores.float().softmax(dim=-1), 1, generator=self.generator)
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)
