"""A running average of what learns: it changes less from step to step, and often answers and paints better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from huayu.training.sharding import local


class Average:
    """``values``: the average of each parameter of ``module`` that learns, in fp32; with a ``decay`` of 0, none.

    The weight of the past is ``min(decay, (1 + n) / (10 + n))`` at step n, so that the start is soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        learns = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.decay, self._parameters = decay, learns if decay else []
        self.values = [local(parameter).float().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step`` steps."""
        keep = min(self.decay, (1 + step) / (10 + step))
        for value, parameter in zip(self.values, self._parameters, strict=True):
            value.lerp_(local(parameter).to(value.dtype), 1 - keep)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The module with the average as its weights; afterwards it has its own again, to the bit."""
        own = [local(parameter).clone() for parameter in self._parameters]
        self._put(self.values)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def take(self) -> None:
        """Begin anew from the weights as they are."""
        for value, parameter in zip(self.values, self._parameters, strict=True):
            value.copy_(local(parameter))

    @torch.no_grad()
    def _put(self, values: Sequence[Tensor]) -> None:
        for value, parameter in zip(values, self._parameters, strict=True):
            local(parameter).copy_(value)
