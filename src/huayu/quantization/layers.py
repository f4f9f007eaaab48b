"""Layers whose weight stays packed. Their tensors have the published names: ``weight``, ``weight_scale``, ``bias``."""

# R rows = outputs, C columns = inputs

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from huayu.quantization.products import ExactProduct, as_published, fast_product, has_kernel, is_laid_out, laid_out
from huayu.quantization.rows import dequantize_rows, packed_shape, quantize_rows, require_columns


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
        return dequantize_rows(as_published(self.weight), self.weight_scale, self.bits, dtype)

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

    The weight is unpacked block by block, never as a whole, for the gradient too. On a CPU, without a gradient, the
    product is the fast one of :mod:`huayu.quantization.products` unless the layer is ``exact``. For it 4 bits change
    their order in memory, not their number, at the first use; state dicts have the published order.
    Source: spec visualglm §8.
    """

    exact = False

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
        if self.exact or x.device.type != "cpu" or (x.requires_grad and torch.is_grad_enabled()):
            self._order(for_kernel=False)
            out = ExactProduct.apply(x, self.weight, self.weight_scale, self.bits)
        else:
            self._order(for_kernel=True)
            out = fast_product(x, self.weight, self.weight_scale, self.bits)
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def _order(self, *, for_kernel: bool) -> None:
        """The weight's integers of 4 bits in the order of the kernel, where there is one, or as published."""
        if self.bits == 4 and is_laid_out(self.weight) != for_kernel:
            with torch.inference_mode(False):  # a gradient may be wanted later
                if not for_kernel:
                    self.weight = as_published(self.weight)
                elif has_kernel(self.rows, self.columns, 4):
                    self.weight = laid_out(self.weight)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> _Packed:
        super()._apply(fn, recurse)
        self._order(for_kernel=is_laid_out(self.weight) and self.weight.device.type == "cpu")
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        self._order(for_kernel=False)
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._order(for_kernel=False)
        super()._load_from_state_dict(*arguments)


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
