"""Layers whose weight stays packed. Their tensors have the published names: ``weight``, ``weight_scale``, ``bias``."""

# R rows = outputs, C columns = inputs

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huayu.quantization.rows import blocks, dequantize_rows, packed_shape, quantize_rows, require_columns


class _Packed(nn.Module):
    """A weight (R, C) as int8 ``weight`` and fp16 ``weight_scale`` (R,)."""

    weight: Tensor
    weight_scale: Tensor
    # Keep their dtype whatever the model is loaded in or cast to.
    own_dtypes = ("weight", "weight_scale")

    def __init__(self, rows: int, columns: int, bits: int, device: torch.device | str | None = None) -> None:
        super().__init__()
        require_columns(columns, bits)
        self.rows, self.columns, self.bits = rows, columns, bits
        shape = packed_shape(rows, columns, bits)
        self.register_buffer("weight", torch.zeros(shape, dtype=torch.int8, device=device))
        self.register_buffer("weight_scale", torch.zeros(rows, dtype=torch.float16, device=device))

    def fill(self, weight: Tensor) -> None:
        """Quantise a floating (R, C) into place, on its device."""
        self.weight, self.weight_scale = quantize_rows(weight.detach(), self.bits)

    def dequantized(self, dtype: torch.dtype = torch.float16) -> Tensor:
        """The whole weight (R, C), on its device."""
        return dequantize_rows(self.weight, self.weight_scale, self.bits, dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> _Packed:
        """``.half()`` and ``.to(bfloat16)`` are about everything else: a scale in bf16 would be another weight."""
        scale = self.weight_scale
        super()._apply(fn, recurse)
        if self.weight_scale.dtype != scale.dtype:
            self.weight_scale = scale.to(self.weight_scale.device)
        return self

    def extra_repr(self) -> str:
        return f"{self.columns}, {self.rows}, bits={self.bits}"


class QuantizedLinear(_Packed):
    """``nn.Linear`` with its weight in ``bits``: x · (integers × scale, in fp16)ᵀ + bias, in the dtype of x.

    The weight is unpacked block by block, never as a whole, for the gradient too. 8 bits in bf16 on a CPU go through
    torch's own kernel: x · integersᵀ, rounded to bf16, × scale. Source: spec visualglm §8.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        bits: int = 8,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(out_features, in_features, bits, device)
        self.in_features, self.out_features = in_features, out_features
        self.bias = nn.Parameter(torch.zeros(out_features, device=device, dtype=dtype)) if bias else None

    @classmethod
    def shaped_as(cls, layer: nn.Linear, bits: int) -> QuantizedLinear:
        """An empty one of the sizes, device, dtype and bias (shared) of ``layer``."""
        weight = layer.weight
        made = cls(layer.in_features, layer.out_features, False, bits, weight.device, weight.dtype)
        made.bias = layer.bias
        return made

    def forward(self, x: Tensor) -> Tensor:
        """(…, C) → (…, R)."""
        out = _Product.apply(x, self.weight, self.weight_scale, self.bits)
        return out if self.bias is None else out + self.bias.to(out.dtype)


class QuantizedEmbedding(_Packed):
    """``nn.Embedding`` with its rows in ``bits``; what it gives has ``dtype``, which the model's casts change."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        bits: int = 8,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, bits, device)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.dtype = dtype or torch.get_default_dtype()

    @classmethod
    def shaped_as(cls, layer: nn.Embedding, bits: int) -> QuantizedEmbedding:
        """An empty one of the sizes, device and dtype of ``layer``."""
        weight = layer.weight
        return cls(layer.num_embeddings, layer.embedding_dim, bits, weight.device, weight.dtype)

    def forward(self, ids: Tensor) -> Tensor:
        """(…) → (…, C)."""
        flat = ids.flatten()
        rows = dequantize_rows(self.weight[flat], self.weight_scale[flat], self.bits, self.dtype)
        return rows.view(*ids.shape, self.columns)

    def loaded_as(self, dtype: torch.dtype) -> None:
        """The model around was filled with tensors of this dtype."""
        self.dtype = dtype

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> _Packed:
        super()._apply(fn, recurse)
        self.dtype = fn(torch.empty(0, dtype=self.dtype, device=self.weight.device)).dtype
        return self


def _has_kernel(x: Tensor, weight: Tensor, bits: int) -> bool:
    """Whether torch multiplies these without unpacking: a third of the fp32 time, rounded twice to bf16."""
    fits = bits == 8 and x.dtype == torch.bfloat16 and x.device.type == "cpu" and hasattr(torch, "_weight_int8pack_mm")
    return fits and all(size % 32 == 0 for size in weight.shape)


class _Product(torch.autograd.Function):
    """x (…, C) · Wᵀ with W packed: the backward pass unpacks again instead of keeping what forward unpacked."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, bits: int) -> Tensor:
        ctx.save_for_backward(weight, scale)
        ctx.bits = bits
        if _has_kernel(x, weight, bits):
            ones = x.new_ones(len(weight))  # the kernel's own scales would be bf16
            product = torch._weight_int8pack_mm(x.reshape(-1, x.shape[-1]), weight, ones)
            return (product.float() * scale.float()).to(x.dtype).view(*x.shape[:-1], -1)
        out = x.new_empty(*x.shape[:-1], len(weight))
        # A CPU computes with halves by way of fp32, and converts faster all at once.
        wide = x.float() if x.device.type == "cpu" and x.dtype in (torch.float16, torch.bfloat16) else x
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
