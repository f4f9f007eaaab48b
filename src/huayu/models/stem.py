"""A convolutional stem before the patches of a vision transformer: our option for small models, never published."""

# N pictures, C channels, S side in pixels, D width

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init


class StemConvolution(nn.Module):
    """Convolution (3×3, larger for strides over 2), batch norm and ReLU; added to its input when it keeps the shape."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and before == after
        kernel = max(3, 2 * stride - 1)
        self.conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, S, S) → (N, C', S / stride, S / stride)."""
        out = F.relu(self.norm(self.conv(x)))
        return x + out if self.residual else out


class StemmedPatches(nn.Module):
    """Pictures (N, 3, S, S) → patches (N, D, S / patch, S / patch).

    ``channels``: widths of the stem's convolutions, each of stride 2 but the first, whose stride makes up the rest of
    ``patch``; after each but the first stand ``depth`` residual ones. Without channels it is one convolution.
    """

    def __init__(self, channels: Sequence[int] | None, depth: int, patch: int, width: int) -> None:
        super().__init__()
        widths = [3, *(channels or [])]
        kernel, stem = patch, []
        for number, (before, after) in enumerate(pairwise(widths)):
            stem.append(StemConvolution(before, after, 2 if number else patch // 2 ** (len(widths) - 2)))
            stem += [StemConvolution(after, after, stride=1) for _ in range(depth if number else 0)]
            kernel = 1
        self.stem = nn.Sequential(*stem)
        self.proj = nn.Conv2d(widths[-1], width, kernel, kernel)

    @property
    def weight(self) -> Tensor:
        """That of the last convolution: its dtype is the one that pictures are taken in."""
        return self.proj.weight

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) → (N, D, S / patch, S / patch)."""
        return self.proj(self.stem(x))


def check_stem(channels: Sequence[int] | None, patch: int) -> None:
    """Raises ValueError when the stem's strides do not make up one patch."""
    halvings = len(channels or [0]) - 1
    if halvings > 0 and patch % 2**halvings:
        raise ValueError(f"patches of {patch} pixels cannot be halved {halvings} times")


def init_stem(module: nn.Module) -> None:
    """A normalised stem learns from any scale; keep its signal near 1."""
    if isinstance(module, StemConvolution):
        init.kaiming_normal_(module.conv.weight, nonlinearity="relu")
