"""From logits to candidates, the published way. R rows (sentences × beams), W width (vocabulary + request words)."""

from __future__ import annotations

import torch
from torch import Tensor

MASKED = -10000.0
"""What a forbidden logit becomes; finite, and set before the repetition penalty. Source: section 8, quirk 4."""


def mask_logits(logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Forbid pairs: ``logits`` (R, W) with MASKED at every (``rows``[n], ``columns``[n])."""
    return logits.index_put((rows, columns), logits.new_tensor(MASKED)) if rows.numel() else logits


def penalize_repetition(logits: Tensor, fed: Tensor, penalty: float) -> Tensor:
    """Make the base ids in ``fed`` (R, N) less likely: negative ``logits`` (R, W) × penalty, others ÷ penalty.

    An id fed twice is penalised once. A request word is penalised through its base id.
    """
    if penalty == 1.0 or not fed.numel():
        return logits
    values = logits.gather(1, fed)
    return logits.scatter(1, fed, torch.where(values < 0, values * penalty, values / penalty))


def best_candidates(
    logits: Tensor, beam_scores: Tensor, temperature: float, sentences: int
) -> tuple[list[list[float]], list[list[int]]]:
    """The best 2 × beams continuations of each sentence, best first.

    ``logits`` (R, W), ``beam_scores`` (R,) summed log probabilities. Returns their summed log probabilities and
    their flat indices (beam × W + token), both (sentences, 2 × beams). The softmax runs in the logits' own dtype.
    """
    beams = logits.shape[0] // sentences
    scores = torch.log_softmax(logits / temperature, dim=-1) + beam_scores[:, None]
    scores = scores.view(sentences, -1)
    values, indices = scores.topk(min(2 * beams, scores.shape[1]), dim=1)
    return values.tolist(), indices.tolist()
