"""Golden cases of quantised weights: integers, scales, packing, what they give back, a product with them."""

from __future__ import annotations

import re

import torch

from huayu.evaluation.verify.cases import Case
from huayu.evaluation.verify.report import Report
from huayu.quantization.layers import QuantizedLinear
from huayu.quantization.rows import dequantize_rows, quantize_rows, round_rows

_WEIGHT = re.compile(r"(?P<name>.+)\.weight_(?P<dtype>fp32|fp16|bf16)")


@torch.no_grad()
def quant(case: Case, report: Report) -> None:
    """Every weight of the case in every number of bits; integers and scales to the bit, products to the tolerance."""
    for key in sorted(case.tensors):
        if found := _WEIGHT.fullmatch(key):
            for bits in case.config["bits"]:
                _check(case, report, found["name"], found["dtype"], bits)


def _check(case: Case, report: Report, name: str, dtype: str, bits: int) -> None:
    weight, bias, x = (case.take(f"{name}.{part}") for part in (f"weight_{dtype}", "bias", "x"))
    prefix = f"{name}.from_{dtype}.int{bits}."
    numbers, scale = round_rows(weight, bits)
    stored = quantize_rows(weight, bits)[0]
    report.exact(f"{prefix}q", numbers, case.take(f"{prefix}q"))
    report.exact(f"{prefix}weight_scale", scale.view(torch.int16), case.take(f"{prefix}weight_scale").view(torch.int16))
    if bits == 4:
        report.exact(f"{prefix}packed", stored, case.take(f"{prefix}packed"))
    whole, recorded = dequantize_rows(stored, scale, bits), case.take(f"{prefix}dequant_fp16")
    report.exact(f"{prefix}dequant_fp16", whole.view(torch.int16), recorded.view(torch.int16))
    layer = QuantizedLinear(weight.shape[1], weight.shape[0], True, bits)
    layer.fill(weight)
    layer.exact = True
    layer.bias = torch.nn.Parameter(bias.float())
    report.close(f"{prefix}linear_fp32", layer(x.float()), case.take(f"{prefix}linear_fp32"), case.tolerance)
