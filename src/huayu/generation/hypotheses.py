"""Closed answers of one sentence, best kept."""

from __future__ import annotations

from dataclasses import dataclass, field

Path = tuple[tuple[int, int], ...]
"""Tokens of an answer so far as (token id, number of the answer segment they belong to)."""


@dataclass(frozen=True)
class Hypothesis:
    """A closed answer: its tokens, closing token included, and its length-normalised score."""

    path: Path
    score: float

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The token ids, the closing one included."""
        return tuple(token for token, _ in self.path)


@dataclass
class Hypotheses:
    """The best ``size`` closed answers. Source: viscpm specification, section 4, steps f and g."""

    size: int
    length_penalty: float
    kept: list[Hypothesis] = field(default_factory=list)

    @property
    def best(self) -> Hypothesis | None:
        """The answer if the search ended now; of equal scores the one found first."""
        return max(self.kept, key=lambda hypothesis: hypothesis.score, default=None)

    def ranked(self) -> tuple[Hypothesis, ...]:
        """All kept answers, the best first; of equal scores the one found first comes first."""
        return tuple(sorted(self.kept, key=lambda hypothesis: -hypothesis.score))

    def add(self, path: Path, log_probability: float) -> None:
        """Close ``path``, whose tokens have this summed log probability; the lowest leaves when there are too many."""
        score = log_probability / len(path) ** self.length_penalty
        if len(self.kept) == self.size:
            worst = min(range(self.size), key=lambda index: self.kept[index].score)
            if score <= self.kept[worst].score:
                return
            del self.kept[worst]
        self.kept.append(Hypothesis(path, score))

    def cannot_improve(self, best_candidate: float, step: int) -> bool:
        """True when enough answers are closed and the best candidate of ``step`` (from 0) would not beat the worst."""
        if len(self.kept) < self.size:
            return False
        worst = min(hypothesis.score for hypothesis in self.kept)
        return worst >= best_candidate / step**self.length_penalty
