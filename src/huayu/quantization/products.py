"""x · Wᵀ with W packed. Exact: as if W had been unpacked. Fast, on a CPU: by torch's own kernels where they fit.

The fast way leaves integers exact, sums in fp32 and applies the fp16 scales in fp32. Its kernels take x in bf16 and
round their sums to bf16: about 0.2 % of the size of what comes out. Above a few rows of x they are no faster than
unpacking, block by block into a core's own cache; then nothing is rounded.
"""

# R rows = outputs, C columns = inputs

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from huayu.quantization.rows import blocks, dequantize_rows, pack, unpack

# Rows of x up to which the kernel of so many bits was faster than unpacking, on one thread.
_FEW = {8: 24, 4: 96}
# R of so many bits and C that the kernels take are multiples of these.
_WHOLE, _COLUMNS = {8: 32, 4: 64}, 32


class ExactProduct(torch.autograd.Function):
    """x (…, C) · Wᵀ: the backward pass unpacks again instead of keeping what forward unpacked."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, bits: int) -> Tensor:
        ctx.save_for_backward(weight, scale)
        ctx.bits = bits
        out = x.new_empty(*x.shape[:-1], len(weight))
        wide = _wide(x)
        for start, end in blocks(weight, x.shape[-1]):
            rows = dequantize_rows(weight[start:end], scale[start:end], bits, wide.dtype)
            out[..., start:end] = F.linear(wide, rows)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        weight, scale = ctx.saved_tensors
        columns = weight.shape[-1] * 8 // ctx.bits
        out = gradient.new_zeros(*gradient.shape[:-1], columns)
        for start, end in blocks(weight, columns):
            unpacked = dequantize_rows(weight[start:end], scale[start:end], ctx.bits, gradient.dtype)
            out += gradient[..., start:end] @ unpacked
        return out, None, None, None


def fast_product(x: Tensor, weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """x (…, C) on the CPU → (…, R) in its dtype; ``weight`` as it is stored or, for 4 bits, :func:`laid_out`."""
    rows, columns = x.numel() // max(x.shape[-1], 1), x.shape[-1]
    if rows <= _FEW[bits] and (bits == 4) == is_laid_out(weight) and has_kernel(len(weight), columns, bits):
        out = _kernel(x.reshape(-1, columns).to(torch.bfloat16), weight, bits) * scale  # bf16 · fp16 is fp32
        return out.to(x.dtype).view(*x.shape[:-1], -1)
    wide = _wide(x)
    out = wide.new_empty(*x.shape[:-1], len(weight))
    for start, end in blocks(weight, columns, _WHOLE[4]):
        out[..., start:end] = F.linear(wide, integers(weight[start:end], bits).to(wide.dtype))
    return out.mul_(scale).to(x.dtype)


def _wide(x: Tensor) -> Tensor:
    """A CPU computes with halves by way of fp32, and converts faster all at once."""
    return x.float() if x.device.type == "cpu" and x.dtype in (torch.float16, torch.bfloat16) else x


def _kernel(x: Tensor, weight: Tensor, bits: int) -> Tensor:
    """bf16 (N, C) · integersᵀ → bf16 (N, R): with scales of one, as the kernels' own would be bf16."""
    if bits == 8:
        return torch._weight_int8pack_mm(x, weight, _ones(len(weight)))
    group = next(size for size in (256, 128, 64, 32) if x.shape[1] % size == 0)
    ones = _ones_and_zeros(x.shape[1] // group, len(weight))
    return torch.ops.aten._weight_int4pack_mm_for_cpu(x, weight, group, ones)


@cache
def _ones(rows: int) -> Tensor:
    return torch.ones(rows, dtype=torch.bfloat16)


@cache
def _ones_and_zeros(groups: int, rows: int) -> Tensor:
    return torch.tensor([1.0, 0.0], dtype=torch.bfloat16).repeat(groups, rows, 1)


def has_kernel(rows: int, columns: int, bits: int) -> bool:
    """Whether torch multiplies a weight (rows, columns) of so many bits without unpacking it, here and rightly."""
    return rows % _WHOLE[bits] == 0 and columns % _COLUMNS == 0 and _tried(bits)


@cache
def _tried(bits: int) -> bool:
    """The kernels are no public part of torch: each is asked once for a product that is known."""
    shape = (2 * _WHOLE[4], _COLUMNS)
    known = torch.randint(-8, 8, shape, generator=torch.Generator().manual_seed(0), dtype=torch.int8)  # no row twice
    try:
        weight = known if bits == 8 else laid_out(pack(known))
        product = _kernel(torch.eye(_COLUMNS, dtype=torch.bfloat16), weight, bits)
    except (AttributeError, RuntimeError):
        return False
    return torch.equal(product.T.to(torch.int8), known)


def is_laid_out(weight: Tensor) -> bool:
    """Stored integers are int8; laid out for the kernel of 4 bits they are uint8, as it takes them."""
    return weight.dtype == torch.uint8


def laid_out(packed: Tensor) -> Tensor:
    """4 bits as they are stored, int8 (R, C/2), R a multiple of 64 → the same in the kernel's order.

    That has blocks of 64 or 32 rows; a block has one column after another, and in each byte of a column a row of the
    block's first half and, high, one of its second half. Integers are counted from -8.
    """
    out, half = torch.empty(packed.shape, dtype=torch.uint8, device=packed.device), _half()
    for start in range(0, len(packed), 2 * half):
        first, second = (packed[start : start + 2 * half].view(torch.uint8) ^ 0x88).chunk(2)
        pairs = torch.stack([(second & 0xF0) | (first >> 4), (second << 4) | (first & 15)])
        out[start : start + 2 * half].view(-1, 2, half).copy_(pairs.permute(2, 0, 1))
    return out


def integers(weight: Tensor, bits: int) -> Tensor:
    """Stored or laid out, whole blocks of it → int8 (R, C)."""
    if not is_laid_out(weight):
        return unpack(weight) if bits == 4 else weight
    columns, half = weight.shape[1] * 2, _half()
    out = torch.empty(len(weight), columns, dtype=torch.int8, device=weight.device)
    for start in range(0, len(weight), 2 * half):
        pairs = weight[start : start + 2 * half].view(columns, half).t().contiguous()
        torch.bitwise_and(pairs, 15, out=out[start : start + half].view(torch.uint8))
        torch.bitwise_right_shift(pairs, 4, out=out[start + half : start + 2 * half].view(torch.uint8))
    return out.sub_(8)


def as_published(weight: Tensor) -> Tensor:
    """The inverse of :func:`laid_out`; what is not laid out is returned as it is."""
    if not is_laid_out(weight):
        return weight
    out = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    for start, end in blocks(weight, weight.shape[1] * 2, _WHOLE[4]):
        out[start:end] = pack(integers(weight[start:end], 4))
    return out


@cache
def _half() -> int:
    """Rows in half a block of the kernel's order: by the widest vectors that torch computes with."""
    return 32 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 16
