"""WKV6 in C and its gradients, against the sequential twin and its autograd in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gfkernels import KernelInputError, wkv6, wkv6_recurrent
from gfkernels.native.build import unavailable
from gfkernels.wkv import native, native_gradients
from torch import Tensor

from tests import tolerances
from tests.kernels.given import gradients, relative, rows, square_inputs
from tests.poison import poison_outputs


def slow(*values: object) -> Any:
    """Parameters of an exhaustive test: the quick ones meet every block size and its edges already."""
    return pytest.param(*values, marks=pytest.mark.slow)


LENGTHS = [1, 3, slow(15), slow(31), slow(32), 33, slow(63), 64, slow(65), slow(200)]
pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


@pytest.fixture(autouse=True)
def _poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    poison_outputs(monkeypatch, native, native_gradients)


@pytest.mark.parametrize("w_high", [-3.0, 0.0, 3.0, 20.0, 1000.0])
@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize(
    ("dtype", "D"), [(torch.float32, 16), slow(torch.float32, 48), (torch.float32, 128), (torch.bfloat16, 64)]
)
def test_wkv6_equals_the_twin(T: int, w_high: float, dtype: torch.dtype, D: int) -> None:
    H = 3
    r, k, v = (rows(T, H, D, dtype=dtype, seed=s) for s in range(3))
    w_low = (torch.rand(T, H, D, generator=torch.Generator().manual_seed(3)) * (w_high + 8) - 8).to(dtype)
    decay, bonus = rows(H, D, dtype=torch.float32, seed=4), rows(H, D, dtype=torch.float32, seed=5)
    state = rows(H, D, D, dtype=torch.float32, seed=6)
    w_raw = (decay + w_low.float())[None].double()
    one, given = 1 - torch.exp(-torch.exp(w_raw)), state.clone()
    for u, scaled in ((bonus, False), (None, True)):
        keys = (k.double() * one[0]).to(dtype) if scaled else k
        u64 = None if u is None else u.double()
        y, end = wkv6_recurrent(
            r[None].double(), keys[None].double(), v[None].double(), w_raw, u64, state[None].double()
        )
        found, found_end = native.wkv6(r, k, v, w_low, decay, u, state, times_one_minus_w=scaled)
        limit = tolerances.WKV6_FP32 if dtype == torch.float32 else 2e-3  # k * (1 - w) is rounded to bf16 on both sides
        assert relative(found, y[0]) <= limit
        assert relative(found_end, end[0]) <= limit
    assert torch.equal(state, given)


def test_keys_of_slow_decays_lose_nothing() -> None:
    """1 - w where w is next to 1: expm1, not a difference."""
    T, D = 4, 16
    k = torch.ones(T, 1, D)
    w_low = torch.full((T, 1, D), -14.0)
    _, end = native.wkv6(k, k, k, w_low, torch.zeros(1, D), None, torch.zeros(1, D, D), times_one_minus_w=True)
    exact = -torch.expm1(-torch.exp(torch.tensor(-14.0).double()))
    assert relative(end, (T * exact).expand(1, D, D)) <= 1e-5


def test_denormal_states_are_flushed_and_cost_nothing() -> None:
    T, D = 400, 16
    k = torch.full((T, 1, D), 1e-3)
    _, end = native.wkv6(k, torch.zeros_like(k), k, k + 3, torch.zeros(1, D), None, torch.ones(1, D, D))
    assert torch.equal(end, torch.zeros_like(end))


def check(given: list[Tensor | None]) -> None:
    expected = gradients(wkv6_recurrent, given, torch.float64)
    found = gradients(native_gradients.wkv6_differentiable, given, torch.float32)
    for a, b in zip(expected, found, strict=True):
        assert torch.isfinite(b).all()
        assert relative(b, a) <= tolerances.WKV6_GRADIENT_FP32


@pytest.mark.parametrize("D", [16, slow(48), 64, 112, slow(128)])
@pytest.mark.parametrize("T", [1, 4, slow(31), slow(32), 33, slow(64), 65, slow(150)])
def test_equal_autograd_of_the_twin(T: int, D: int) -> None:
    check(list(square_inputs(2, T, 3, D, 1.0)))


@pytest.mark.parametrize("w_high", [-5.0, 0.0, 4.0, 20.0])
def test_every_decay(w_high: float) -> None:
    check(list(square_inputs(1, 70, 2, 32, w_high)))


def test_decays_beyond_every_number_leave_finite_gradients() -> None:
    """exp(-exp(1000)): the twin's own chain rule multiplies 0 by infinity there."""
    given = square_inputs(1, 40, 2, 32, 1000.0)
    for gradient in gradients(native_gradients.wkv6_differentiable, list(given), torch.float32):
        assert torch.isfinite(gradient).all()


def test_without_bonus_and_state() -> None:
    check([*square_inputs(2, 50, 2, 32, 0.0)[:4], None, None])


def test_rows_that_do_not_lie_in_a_row() -> None:
    given = square_inputs(2, 20, 3, 16, 0.0)
    strided = [x.transpose(1, 2).contiguous().transpose(1, 2) if x.dim() == 4 else x for x in given]
    form = native_gradients.wkv6_differentiable
    for a, b in zip(
        gradients(form, list(given), torch.float32), gradients(form, list(strided), torch.float32), strict=True
    ):
        assert torch.equal(a, b)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    given = list(square_inputs(3, 70, 3, 32, 0.0))
    threads = torch.get_num_threads()
    found = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            found.append(gradients(native_gradients.wkv6_differentiable, list(given), torch.float32))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_low_precision_rows_are_computed_in_float32() -> None:
    r, k, v, w_raw, u, state = square_inputs(1, 40, 2, 16, 0.0)
    low = [x.to(torch.bfloat16) for x in (r, k, v)]
    y, end = native_gradients.wkv6_differentiable(*low, w_raw, u, state)
    expected, expected_end = wkv6_recurrent(*(x.double() for x in low), w_raw.double(), u.double(), state.double())
    assert y.dtype == torch.bfloat16
    assert relative(end, expected_end) <= tolerances.WKV6_FP32
    assert relative(y, expected) <= 2**-7


@pytest.mark.slow
def test_the_compiler_takes_it_as_it_is() -> None:
    given = list(square_inputs(2, 40, 2, 16, 0.0))
    whole = torch.compile(lambda *x: wkv6(*x), fullgraph=True, dynamic=False)
    for a, b in zip(gradients(wkv6, given, torch.float32), gradients(whole, given, torch.float32), strict=True):
        assert torch.equal(a, b)


def test_operators_keep_the_rules_of_torch() -> None:
    r, k, v, w_raw, u, state = (x.requires_grad_() for x in square_inputs(1, 5, 2, 16, 0.0))
    torch.library.opcheck(native_gradients._operator, (r, k, v, w_raw, u, state))
    torch.library.opcheck(native_gradients._operator, (r, k, v, w_raw, None, None))


def test_wrong_shapes_are_named() -> None:
    r, k, v, w_raw, u, state = square_inputs(1, 5, 2, 16, 0.0)
    with pytest.raises(KernelInputError, match="w_raw"):
        native_gradients.wkv6_differentiable(r, k, v, w_raw[:, :4], u, state)
