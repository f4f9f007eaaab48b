"""How to search, and the settings the published chat uses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BeamOptions:
    """Settings of the published beam search.

    ``num_beams`` live beams per sentence; at most ``max_new_tokens + 2`` tokens per answer, the last one forced;
    ``repetition_penalty`` >= 1 over the last ``repetition_window`` fed tokens (None: all of them); a closed answer
    scores its summed log probability over ``length ** length_penalty``; logits are divided by ``temperature`` > 0.
    Raises ValueError for a value outside its range. Source: viscpm specification, section 4.
    """

    num_beams: int = 3
    max_new_tokens: int = 100
    repetition_penalty: float = 1.0
    repetition_window: int | None = None
    length_penalty: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.num_beams < 1:
            raise ValueError(f"num_beams must be at least 1, not {self.num_beams}")
        if self.max_new_tokens < 0:
            raise ValueError(f"max_new_tokens must not be negative, as {self.max_new_tokens} is")
        if self.repetition_penalty <= 0:
            raise ValueError(f"repetition_penalty must be above 0, not {self.repetition_penalty}")
        if self.repetition_window is not None and self.repetition_window < 1:
            raise ValueError(f"repetition_window must be at least 1 or None, not {self.repetition_window}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, not {self.temperature}")


PUBLISHED_CHAT = BeamOptions(
    num_beams=3, max_new_tokens=512, repetition_penalty=1.1, length_penalty=3.0, temperature=0.7
)
"""What the published ``chat()`` always uses. Source: viscpm specification, section 3.4."""
