"""A language of a few tokens whose next-token logits are a pure function of what a row has been fed."""

from __future__ import annotations

import random

import torch

VOCABULARY = 12


class ToyStepper:
    """Logits are random numbers seeded by the row's whole history; ``bonus`` makes chosen tokens likelier."""

    device = torch.device("cpu")

    def __init__(self, seeds, beams, words=0, bonus=None, dtype=torch.float32):
        self.histories = [(seed,) for seed in seeds for _ in range(beams)]
        self.width = VOCABULARY + words
        self.bonus = bonus or {}
        self.dtype = dtype
        self.calls = []

    def step(self, token_ids, segment_ids, position_ids):
        fed = list(zip(token_ids.tolist(), segment_ids.tolist(), position_ids.tolist(), strict=True))
        self.calls.append(fed)
        self.histories = [(*history, one) for history, one in zip(self.histories, fed, strict=True)]
        return torch.tensor([self.logits(history) for history in self.histories], dtype=self.dtype)

    def logits(self, history):
        dice = random.Random(repr(history))
        return [dice.uniform(-3, 3) + self.bonus.get(token, 0.0) for token in range(self.width)]

    def reorder(self, parents):
        self.histories = [self.histories[parent] for parent in parents.tolist()]


class FixedStepper(ToyStepper):
    """The same logits at every step, so that a search can be followed by hand."""

    def __init__(self, values, beams, sentences=1):
        super().__init__([0] * sentences, beams, words=len(values) - VOCABULARY)
        self.values = values

    def logits(self, history):
        return self.values
