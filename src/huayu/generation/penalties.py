"""Against saying the same again. R rows, T tokens, W width of the logits."""

from __future__ import annotations

from torch import Tensor
from transformers import LogitsProcessor


class Penalties(LogitsProcessor):
    """Takes ``frequency`` times its count, and ``presence`` once, off the logit of a token that the answer has.

    What the model read does not count. For one call of ``generate``. Source: OpenAI's API reference, frequency and
    presence penalties.
    """

    def __init__(self, frequency: float, presence: float) -> None:
        self.frequency, self.presence = frequency, presence
        self._read: int | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Ids (R, T), scores (R, W) → scores."""
        if self._read is None:
            self._read = input_ids.shape[1]
        written = input_ids[:, self._read :]
        counts = scores.new_zeros(scores.shape).scatter_add(1, written, scores.new_ones(written.shape))
        return scores - self.frequency * counts - self.presence * counts.clamp(max=1)
