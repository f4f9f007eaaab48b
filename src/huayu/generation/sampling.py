"""Random draws that can be repeated and that leave the process's random state alone. R rows, W width of the logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)


@dataclass(frozen=True)
class Sampling:
    """How to draw the next token: ``temperature`` > 0, then only the ``top_k`` likeliest (0: all), then the likeliest
    that make up ``top_p`` of (0, 1], then those at least ``min_p`` of [0, 1] times as likely as the best.

    The same ``seed`` gives the same draws, on every device; None is another seed each time. Raises ValueError.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, not {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k must not be negative, as {self.top_k} is")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], not {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must be in [0, 1], not {self.min_p}")

    def processors(self) -> LogitsProcessorList:
        """The steps for ``generate(do_sample=False, logits_processor=…)``; its arg-max then takes what was drawn."""
        steps = LogitsProcessorList()
        if self.temperature != 1.0:
            steps.append(TemperatureLogitsWarper(float(self.temperature)))
        if self.top_k:
            steps.append(TopKLogitsWarper(self.top_k))
        if self.top_p < 1.0:
            steps.append(TopPLogitsWarper(float(self.top_p)))
        if self.min_p > 0.0:
            steps.append(MinPLogitsWarper(float(self.min_p)))
        steps.append(Draw(self.seed))
        return steps


class Draw(LogitsProcessor):
    """Draws one token per row and leaves only it: the library's own sampling reads the global random state."""

    def __init__(self, seed: int | None = None) -> None:
        self.generator = torch.Generator()
        if seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(seed)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002 (the library's signature)
        """Scores (R, W) → 0 for the token drawn, -inf elsewhere."""
        # One number per row from the CPU, looked up in the cumulative sum: the same on every device.
        total = torch.softmax(scores.double(), dim=-1).cumsum(dim=-1)
        point = torch.rand(scores.shape[0], 1, generator=self.generator, dtype=torch.float64).to(scores.device)
        token = torch.searchsorted(total, point * total[:, -1:], right=True).clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, float("-inf")).scatter(1, token, 0.0)
