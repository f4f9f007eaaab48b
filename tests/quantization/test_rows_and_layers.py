"""Packed weights: their integers, their memory, their products and gradients; casts leave them alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from huayu.errors import ModelError
from huayu.quantization import QuantizedEmbedding, QuantizedLinear, dequantize_rows, exact, products, quantize_rows
from huayu.quantization.products import _tried, as_published, has_kernel, integers, laid_out
from huayu.quantization.rows import pack, unpack


def linear(columns=64, rows=48, bias=True, dtype=torch.float32):
    torch.manual_seed(3)
    return nn.Linear(columns, rows, bias=bias, dtype=dtype)


def packed(layer, bits):
    made = QuantizedLinear.shaped_as(layer, bits)
    made.fill(layer.weight)
    return made


def test_packing_keeps_every_integer_of_four_bits():
    numbers = torch.arange(-8, 8, dtype=torch.int8).repeat(3, 1)
    assert torch.equal(unpack(pack(numbers)), numbers)
    assert pack(numbers)[0, 0] == ((-8 & 15) << 4 | (-7 & 15)) - 256  # the first column is the high half


@pytest.mark.parametrize(("bits", "top"), [(8, 127), (4, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_number_comes_back_within_half_a_step(bits, top, dtype):
    weight = linear(dtype=dtype).weight.detach()
    stored, scale = quantize_rows(weight, bits)
    step = weight.float().abs().amax(dim=1, keepdim=True) / top
    error = (dequantize_rows(stored, scale, bits, torch.float32) - weight.float()).abs()
    assert bool((error <= 0.502 * step + weight.float().abs() * 2**-9).all())
    assert error.max() > 0.2 * step.max()  # it is a rounding


@pytest.mark.parametrize("bits", [8, 4])
def test_a_row_of_zeros_stays_zero(bits):
    weight = torch.zeros(3, 8)
    weight[1] = 1e-9  # its scale is zero in fp16 too
    weight[2, 3] = 2.0
    stored, scale = quantize_rows(weight, bits)
    back = dequantize_rows(stored, scale, bits)
    assert bool((back[:2] == 0).all())
    assert back[2, 3] == pytest.approx(2.0, abs=2e-3)


def test_blocks_of_rows_change_nothing(monkeypatch):
    layer, x = linear(64, 4100), torch.randn(5, 64)
    whole = packed(layer, 4)
    expected = whole(x)
    monkeypatch.setattr("huayu.quantization.rows._CPU_BLOCK", 64 * 7)
    again = packed(layer, 4)
    assert torch.equal(again.weight, whole.weight)
    assert torch.equal(again.weight_scale, whole.weight_scale)
    torch.testing.assert_close(again(x), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float16, 4e-3), (torch.bfloat16, 4e-2)])
def test_the_product_is_that_of_the_unpacked_weight(bits, dtype, tolerance):
    layer = exact(packed(linear(), bits).to(dtype))
    x = torch.randn(2, 3, 64, dtype=dtype)
    expected = F.linear(x.double(), layer.dequantized(torch.float64), layer.bias.double())
    out = layer(x)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 0), (torch.float16, 2**-11), (torch.bfloat16, 2**-8)])
@pytest.mark.parametrize(("tokens", "error"), [(6, 4e-3), (200, 4e-4)])
def test_the_fast_product_is_as_close_as_promised(bits, dtype, rounding, tokens, error):
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        assert has_kernel(128, 96, bits)
        assert has_kernel(130528, 1024, 8)  # ChatGLM's output
    layer = packed(linear(96, 128, bias=False), bits)
    x = torch.randn(2, tokens // 2, 96, dtype=dtype)
    expected = F.linear(x.double(), layer.dequantized(torch.float64))
    with torch.inference_mode():
        fast, exact_one = layer(x), exact(layer)(x)
    assert fast.dtype == dtype
    assert (fast.double() - expected).norm() < (error + rounding) * expected.norm()
    assert (exact_one.double() - expected).norm() < (1e-6 + rounding) * expected.norm()
    assert not torch.equal(fast, exact_one) or not has_kernel(128, 96, bits)


def test_a_kernel_that_expects_another_order_of_rows_is_not_used(monkeypatch):
    """As torch's own on processors that have neither AVX2 nor AVX512."""
    _tried.cache_clear()
    half = products._half()
    monkeypatch.setattr(products, "_half", lambda: 48 - half)
    assert not has_kernel(128, 96, 4)
    _tried.cache_clear()


@pytest.mark.parametrize("bits", [8, 4])
def test_without_the_kernels_of_torch_weights_are_unpacked(bits, monkeypatch):
    def gone(*_: object) -> None:
        raise AttributeError("no such kernel")

    monkeypatch.setattr("huayu.quantization.products._kernel", gone)
    _tried.cache_clear()
    try:
        layer, x = packed(linear(96, 128), bits), torch.randn(3, 96)
        assert not has_kernel(128, 96, bits)
        with torch.no_grad():
            torch.testing.assert_close(layer(x), exact(layer)(x), rtol=1e-3, atol=1e-3)
        assert layer.weight.dtype == torch.int8
    finally:
        _tried.cache_clear()


def test_the_order_of_the_kernel_and_back():
    stored = quantize_rows(linear(96, 192).weight.detach(), 4)[0]
    assert torch.equal(as_published(laid_out(stored)), stored)
    assert torch.equal(integers(laid_out(stored), 4), unpack(stored))


def test_fast_use_changes_nothing_that_can_be_seen():
    layer, x = packed(linear(96, 128, bias=False), 4), torch.randn(3, 96)
    stored = layer.weight
    expected = exact(layer)(x)
    with torch.inference_mode():
        fast = exact(layer, False)(x)
        assert (layer.weight.dtype == torch.uint8) == has_kernel(128, 96, 4)  # then in its order
        again = copy.deepcopy(layer)
        assert torch.equal(again.bfloat16().float()(x), fast)
    assert layer.weight.nbytes == stored.nbytes
    assert torch.equal(layer.dequantized(), again.dequantized())
    other = packed(linear(96, 128, bias=False), 4)
    with torch.no_grad():
        other(x)
        other.weight_scale.zero_()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.weight, stored)
    with torch.no_grad():
        assert torch.equal(other(x), fast)
        layer(x)
    trained = x.clone().requires_grad_()
    out = layer(trained)
    assert torch.equal(out, expected)
    out.sum().backward()
    assert trained.grad is not None


@pytest.mark.parametrize("bits", [8, 4])
def test_the_gradient_goes_through(bits):
    layer = packed(linear(), bits)
    x = torch.randn(3, 64, requires_grad=True)
    (layer(x) ** 2).sum().backward()
    other = x.detach().clone().requires_grad_()
    (F.linear(other, layer.dequantized(torch.float32), layer.bias) ** 2).sum().backward()
    torch.testing.assert_close(x.grad, other.grad, rtol=1e-5, atol=1e-5)
    assert layer.bias.grad is not None


@pytest.mark.parametrize("bits", [8, 4])
def test_memory_is_that_of_the_integers(bits):
    layer = packed(linear(256, 512, bias=False), bits)
    assert sum(buffer.nbytes for buffer in layer.buffers()) == 512 * 256 * bits // 8 + 512 * 2
    assert list(layer.state_dict()) == ["weight", "weight_scale"]


@pytest.mark.parametrize("cast", [torch.float32, torch.bfloat16, torch.float64])
def test_a_cast_leaves_integers_and_scales(cast):
    layer = packed(linear(dtype=torch.float16), 8)
    before = layer.weight_scale.clone()
    layer.to(cast)
    assert torch.equal(layer.weight_scale, before)
    assert layer.weight_scale.dtype == torch.float16
    assert layer.bias.dtype == cast


@pytest.mark.parametrize("bits", [8, 4])
def test_an_embedding_gives_its_unpacked_rows(bits):
    torch.manual_seed(4)
    table = nn.Embedding(50, 16)
    layer = QuantizedEmbedding.shaped_as(table, bits)
    layer.fill(table.weight)
    ids = torch.tensor([[3, 49], [0, 3]])
    assert torch.equal(layer(ids), layer.dequantized(torch.float32)[ids])
    assert layer.bfloat16()(ids).dtype == torch.bfloat16
    torch.testing.assert_close(layer.float()(ids), table(ids), rtol=0, atol=0.3 if bits == 4 else 0.02)


@pytest.mark.parametrize(
    ("weight", "bits", "words"),
    [
        (torch.ones(2, 7), 4, "7 columns"),
        (torch.ones(2, 8), 3, "3 bits"),
        (torch.full((2, 8), float("nan")), 8, "not finite"),
        (torch.full((2, 8), 1e8), 8, "too large"),
    ],
)
def test_what_cannot_be_packed_is_said(weight, bits, words):
    with pytest.raises(ModelError, match=words):
        quantize_rows(weight, bits)
