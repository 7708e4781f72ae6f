"""The chunked WKV6 and the one-token step against the sequential twin and the reference vectors."""

from __future__ import annotations

import pytest
import torch
from gfkernels import KernelInputError, wkv6_chunked, wkv6_recurrent, wkv6_step
from gfkernels.wkv.chunked import safe_block
from safetensors.torch import load_file

from tests import tolerances
from tests.conftest import SMALL_GOLDEN
from tests.kernels.given import inputs, relative


@pytest.mark.parametrize("case", range(6))
@pytest.mark.parametrize("form", [wkv6_recurrent, wkv6_chunked])
def test_reference_vectors(case: int, form: object) -> None:
    vectors = load_file(SMALL_GOLDEN / "ops" / "wkv6_op.safetensors")
    r, k, v, w, u, s0, y, s1 = (vectors[f"case{case}.{name}"] for name in ("r", "k", "v", "w", "u", "s0", "y", "s1"))
    found_y, found_state = form(r, k, v, w, u, s0)  # type: ignore[operator]
    assert relative(found_y, y) <= tolerances.WKV6_FP32
    assert relative(found_state, s1) <= tolerances.WKV6_FP32
    found_y, found_state = form(*(x.double() for x in (r, k, v, w, u, s0)))  # type: ignore[operator]
    assert relative(found_y, y) <= tolerances.WKV6_FP64
    assert relative(found_state, s1) <= tolerances.WKV6_FP64


@pytest.mark.parametrize("w_high", [-3.0, 0.0, 1.0, 2.0, 3.0, 5.0, 20.0, 1000.0])
@pytest.mark.parametrize("T", [1, 15, 63, 64, 65, 200])
def test_chunked_equals_the_twin(T: int, w_high: float) -> None:
    r, k, v, w_raw, u, state = inputs(T, w_high)
    y, end = wkv6_recurrent(r, k, v, w_raw, u, state)
    found_y, found_end = wkv6_chunked(*(x.float() for x in (r, k, v, w_raw, u, state)))
    assert torch.isfinite(found_y).all()
    assert relative(found_y, y) <= tolerances.WKV6_FP32
    assert relative(found_end, end) <= tolerances.WKV6_FP32
    y, end = wkv6_recurrent(r, k, v, w_raw)
    found_y, found_end = wkv6_chunked(r, k, v, w_raw)
    assert relative(found_y, y) <= tolerances.WKV6_FP64
    assert relative(found_end, end) <= tolerances.WKV6_FP64


def test_one_strong_decay_among_weak_ones_keeps_the_answer() -> None:
    """A step of exp(-exp(5)) between steps next to 1: what follows it must be exact, what precedes it gone."""
    r, k, v, w_raw, u, state = inputs(130, -6.0)
    w_raw[:, 70] = 5.0
    y, end = wkv6_recurrent(r, k, v, w_raw, u, state)
    found_y, found_end = wkv6_chunked(*(x.float() for x in (r, k, v, w_raw, u, state)))
    assert relative(found_y, y) <= tolerances.WKV6_FP32
    assert relative(found_end, end) <= tolerances.WKV6_FP32


def test_tiny_receptance_survives_strong_decays() -> None:
    """No factor may push a small receptance into denormals."""
    r, k, v, w_raw, u, state = inputs(64, 1.3)
    r = r * 1e-9
    y, _ = wkv6_recurrent(r, k, v, w_raw, u, state)
    found, _ = wkv6_chunked(*(x.float() for x in (r, k, v, w_raw, u, state)))
    assert relative(found, y) <= tolerances.WKV6_FP32


def test_blocks_are_long_only_where_that_is_safe() -> None:
    assert safe_block(1.0) == 64
    assert safe_block(3.0) == 32
    assert safe_block(7.0) == 16
    assert safe_block(20.0) == 4
    assert safe_block(61.0) == 1
    assert safe_block(float("inf")) == 1


@pytest.mark.parametrize("chunk", [1, 2, 8, 64, 128])
def test_any_chunk(chunk: int) -> None:
    r, k, v, w_raw, u, state = inputs(100, 2.0)
    y, end = wkv6_recurrent(r, k, v, w_raw, u, state)
    found_y, found_end = wkv6_chunked(r, k, v, w_raw, u, state, chunk=chunk)
    assert relative(found_y, y) <= tolerances.WKV6_FP64
    assert relative(found_end, end) <= tolerances.WKV6_FP64


def test_split_anywhere() -> None:
    r, k, v, w_raw, u, state = inputs(200, 1.0)
    y, end = wkv6_chunked(r, k, v, w_raw, u, state)
    for cut in (1, 15, 63, 64, 65, 199):
        first, middle = wkv6_chunked(*(x[:, :cut] for x in (r, k, v, w_raw)), u, state)
        second, last = wkv6_chunked(*(x[:, cut:] for x in (r, k, v, w_raw)), u, middle)
        assert relative(torch.cat([first, second], 1), y) <= tolerances.WKV6_FP64
        assert relative(last, end) <= tolerances.WKV6_FP64


def test_step_equals_the_twin() -> None:
    r, k, v, w_raw, u, state = inputs(1, 2.0)
    for bonus in (u, None):
        y, end = wkv6_recurrent(r, k, v, w_raw, bonus, state)
        found_y, found_end = wkv6_step(r, k, v, w_raw, bonus, state)
        assert relative(found_y, y) <= tolerances.WKV6_FP64
        assert relative(found_end, end) <= tolerances.WKV6_FP64


def test_non_contiguous_input_and_untouched_arguments() -> None:
    r, k, v, w_raw, u, state = inputs(40, 0.0)
    strided = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (r, k, v, w_raw)]
    copies = [x.clone() for x in (*strided, u, state)]
    y, end = wkv6_chunked(*strided, u, state)
    expected_y, expected_end = wkv6_recurrent(r, k, v, w_raw, u, state)
    assert relative(y, expected_y) <= tolerances.WKV6_FP64
    assert relative(end, expected_end) <= tolerances.WKV6_FP64
    assert all(torch.equal(a, b) for a, b in zip(copies, (*strided, u, state), strict=True))


def test_empty_sequence_returns_the_state() -> None:
    r, k, v, w_raw, u, state = inputs(3, 0.0)
    y, end = wkv6_chunked(r[:, :0], k[:, :0], v[:, :0], w_raw[:, :0], u, state)
    assert y.shape == (2, 0, 2, 24)
    assert torch.equal(end, state)


@pytest.mark.parametrize("w_high", [0.0, 2.0, 4.0])
def test_gradients_equal_those_of_the_twin(w_high: float) -> None:
    tensors = [x.requires_grad_() for x in inputs(70, w_high, B=1)]
    g = torch.Generator().manual_seed(1)
    weight = torch.randn(1, 70, 2, 24, generator=g, dtype=torch.float64)
    grads = []
    for form in (wkv6_recurrent, wkv6_chunked):
        y, end = form(*tensors)
        grads.append(torch.autograd.grad((y * weight).sum() + end.sum(), tensors))
    for a, b in zip(*grads, strict=True):
        assert torch.isfinite(b).all()
        assert float((a - b).abs().max()) <= 1e-9 * float(a.abs().max())


def test_low_precision_input_accumulates_in_float32() -> None:
    r, k, v, w_raw, u, state = inputs(100, 0.0)
    rounded = [x.to(torch.bfloat16) for x in (r, k, v, w_raw)]
    y, end = wkv6_chunked(*rounded, u, state)
    expected, expected_end = wkv6_recurrent(*(x.double() for x in rounded), u, state)
    assert y.dtype == torch.bfloat16
    assert end.dtype == torch.float32
    assert relative(end, expected_end) <= tolerances.WKV6_FP32
    assert relative(y, expected) <= 2**-7  # one rounding of the result to bf16


def test_wrong_shapes_are_named() -> None:
    r, k, v, w_raw, u, state = inputs(5, 0.0)
    with pytest.raises(KernelInputError, match="wkv_state"):
        wkv6_chunked(r, k, v, w_raw, u, state.transpose(-1, -2))
    with pytest.raises(KernelInputError, match="w_raw"):
        wkv6_recurrent(r, k, v, w_raw[:, :4], u, state)
