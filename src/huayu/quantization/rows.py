"""Symmetric integers with one fp16 scale a row, bit for bit as the published code makes them.

R rows, C columns. Source: spec visualglm §8.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from huayu.errors import ModelError

BITS = (8, 4)
# Numbers handled at a time: a block and its fp32 form stay in a core's own cache; a GPU wants much more work.
_CPU_BLOCK, _GPU_BLOCK = 2**19, 2**26


def quantize_rows(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Floating (R, C) → integers as :func:`round_rows` makes them, those of 4 bits packed into int8 (R, C/2); scales.

    Packed: column 2j is the high half of byte j, column 2j+1 the low half, both two's complement. Raises ModelError as
    :func:`round_rows`, and for an odd C in 4 bits.
    """
    require_columns(weight.shape[-1], bits)
    return _filled(weight, bits, packed=bits == 4)


def round_rows(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Floating (R, C) → integers, int8 (R, C), and scales, fp16 (R,).

    The scale is the row's largest magnitude ÷ 127 (or 7), rounded to fp16; the division by it happens in the weight's
    own dtype, halves round to even. A row whose scale would be 0 becomes zeros: published code divides by it. In a row
    of numbers below 1e-5 the scale has so few bits that an integer may not fit; it wraps around, as published.
    Raises ModelError for another number of bits, and numbers that are not finite or too large for an fp16 scale.
    """
    return _filled(weight, bits, packed=False)


def _filled(weight: Tensor, bits: int, *, packed: bool) -> tuple[Tensor, Tensor]:
    top = _top(bits)
    shape = packed_shape(weight.shape[0], weight.shape[1], bits) if packed else weight.shape
    numbers = torch.empty(shape, dtype=torch.int8, device=weight.device)
    scale = torch.empty(len(weight), dtype=torch.float16, device=weight.device)
    for start, end in blocks(weight):
        rows = weight[start:end]
        scale[start:end] = (rows.abs().amax(dim=-1) / top).half()
        divisor = scale[start:end].float()[:, None]
        quotient = rows.float() / divisor
        if weight.dtype == torch.float16:  # a quotient of two fp16 numbers, rounded to fp16
            quotient = quotient.half().float()
        whole = quotient.round_().masked_fill_(divisor == 0, 0).to(torch.int32).to(torch.int8)
        numbers[start:end] = pack(whole) if packed else whole
    if not bool(scale.isfinite().all()):
        raise ModelError(
            "The weights cannot be quantised: some are not finite, or too large for a scale in fp16.",
            "无法量化权重：存在非有限数，或其大小超出 fp16 比例因子的范围。",
        )
    return numbers, scale


def dequantize_rows(weight: Tensor, scale: Tensor, bits: int, dtype: torch.dtype = torch.float16) -> Tensor:
    """Integers as :func:`quantize_rows` made them → (R, C) in ``dtype``: the fp16 product with the scale, cast."""
    numbers = unpack(weight) if bits == 4 else weight
    if weight.device.type == "cpu":  # fp16 has no fast arithmetic there; the fp32 product is exact, so it rounds alike
        return numbers.float().mul_(scale.float()[:, None]).half().to(dtype)
    return numbers.half().mul_(scale.half()[:, None]).to(dtype)


def pack(numbers: Tensor) -> Tensor:
    """int8 (R, C) in -8…7 → int8 (R, C/2)."""
    return (numbers[:, 0::2] << 4) | (numbers[:, 1::2] & 15)


def unpack(packed: Tensor) -> Tensor:
    """int8 (R, C/2) → int8 (R, C) in -8…7."""
    return torch.stack([packed >> 4, (packed << 4) >> 4], dim=-1).flatten(-2)


def packed_shape(rows: int, columns: int, bits: int) -> tuple[int, int]:
    """Shape of the integers of a weight (rows, columns)."""
    return (rows, columns * bits // 8)


def require_columns(columns: int, bits: int) -> None:
    """Raises ModelError when so many columns cannot be packed into whole bytes."""
    if columns * _bits(bits) % 8:
        raise ModelError(f"{columns} columns do not pack into 4 bits each.", f"{columns} 列无法以 4 位打包。")


def blocks(weight: Tensor, columns: int | None = None, whole: int = 1) -> Iterator[tuple[int, int]]:
    """Ranges of rows, each small enough to be worked on at once; ``columns`` of a row, if packed.

    All but the last are multiples of ``whole`` rows.
    """
    size = _CPU_BLOCK if weight.device.type == "cpu" else _GPU_BLOCK
    step = max(size // max(columns or weight.shape[-1], 1) // whole, 1) * whole
    for start in range(0, len(weight), step):
        yield start, min(start + step, len(weight))


def _bits(bits: int) -> int:
    if bits not in BITS:
        raise ModelError(f"{bits} bits are not possible: 8 and 4 are.", f"不支持 {bits} 位：可用 8 与 4。")
    return bits


def _top(bits: int) -> int:
    return 2 ** (_bits(bits) - 1) - 1
