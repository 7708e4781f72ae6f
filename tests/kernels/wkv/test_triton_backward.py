"""Gradients of WKV6 in Triton against autograd of the sequential twin."""

from __future__ import annotations

import pytest
import torch
from gfkernels import wkv6, wkv6_recurrent
from torch import Tensor

from tests import tolerances
from tests.kernels.given import inputs, relative
from tests.kernels.triton_given import DEVICE
from tests.kernels.wkv.on_device import HALVES, LIMITS, mixed_decays, on_device
from tests.poison import poison_outputs

pytest.importorskip("triton")
from gfkernels.wkv import triton, triton_backward

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's exp(1000)


@pytest.fixture(autouse=True)
def _poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    poison_outputs(monkeypatch, triton, triton_backward)


@pytest.mark.slow
@pytest.mark.parametrize("w_high", [-3.0, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("T", [1, 40])
def test_gradients_equal_autograd_of_the_twin(T: int, w_high: float) -> None:
    given = on_device(inputs(T, w_high, B=1), torch.float32)
    check_gradients(given, torch.float32, tolerances.WKV6_GRADIENT_FP32)


@pytest.mark.slow
def test_gradients_of_slow_decays_beside_steep_ones() -> None:
    given = on_device([x[:1] if n != 4 else x for n, x in enumerate(mixed_decays(40))], torch.float32)
    check_gradients(given, torch.float32, tolerances.WKV6_GRADIENT_FP32)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("w_high", [0.0, 3.0])
def test_gradients_of_half_precision_rows(w_high: float, dtype: torch.dtype) -> None:
    check_gradients(on_device(inputs(40, w_high, B=1), dtype), dtype, LIMITS[dtype])


@pytest.mark.parametrize(
    ("dtype", "T", "B", "H"),
    [
        (torch.float16, 20, 1, 1),
        pytest.param(torch.bfloat16, 40, 2, 4, marks=pytest.mark.gpu),
        pytest.param(torch.bfloat16, 320, 2, 4, marks=pytest.mark.gpu),
    ],
)
@pytest.mark.parametrize("w_high", [0.0, 3.0])
def test_gradients_as_in_training(w_high: float, dtype: torch.dtype, T: int, B: int, H: int) -> None:
    """Heads of 64 and the dtypes that autocast leaves: half-precision r and v beside float32 k and w_raw."""
    tensors = inputs(T, w_high, B=B, H=H, K=64, V=64)
    given = [x.to(DEVICE, dtype if n in (0, 2) else torch.float32) for n, x in enumerate(tensors)]
    check_gradients(given, dtype, LIMITS[dtype])


def check_gradients(given: list[Tensor], dtype: torch.dtype, limit: float) -> None:
    """Of tensors on the device, against autograd of the twin in float64 on the same values; `dtype` is that of y."""
    (B, T, H, K), V = given[0].shape, given[2].shape[-1]
    g = torch.Generator().manual_seed(1)
    # Numbers of few digits: the gradient of y is rounded to the dtype of y.
    weight = torch.randn(B, T, H, V, generator=g, dtype=torch.float64).to(dtype).double()
    weight_end = torch.randn(B, H, V, K, generator=g, dtype=torch.float64)

    def gradients(form, given: list[Tensor]) -> tuple[Tensor, ...]:
        leaves = [x.detach().requires_grad_() for x in given]
        y, end = form(*leaves)
        loss = (y * weight.to(y)).sum() + (end * weight_end.to(end)).sum()
        return torch.autograd.grad(loss, leaves)

    expected = gradients(wkv6_recurrent, [x.double().cpu() for x in given])
    found = gradients(triton_backward.wkv6_differentiable, given)
    for a, b in zip(expected, found, strict=True):
        assert torch.isfinite(b).all()
        assert relative(b.cpu(), a) <= limit


def test_gradients_without_bonus_and_state() -> None:
    r, k, v, w_raw, _, _ = inputs(20, 0.0, B=1)
    leaves = [x.float().to(DEVICE).requires_grad_() for x in (r, k, v, w_raw)]
    exact = [x.requires_grad_() for x in (r, k, v, w_raw)]
    found = torch.autograd.grad(wkv6(*leaves, backend="triton")[0].sum(), leaves)
    expected = torch.autograd.grad(wkv6_recurrent(*exact)[0].sum(), exact)
    for a, b in zip(expected, found, strict=True):
        assert relative(b.cpu(), a) <= tolerances.WKV6_GRADIENT_FP32


def test_the_compiler_takes_it_as_it_is() -> None:
    """Training on a GPU is compiled; half-precision rows beside a float32 decay, as autocast gives them."""
    r, k, v, w_raw, u, _ = inputs(20, 0.0, B=1)
    leaves = [x.to(DEVICE, torch.float16).requires_grad_() for x in (r, k, v)]
    leaves += [x.float().to(DEVICE).requires_grad_() for x in (w_raw, u)]
    whole = torch.compile(lambda *x: wkv6(*x, backend="triton"), fullgraph=True, dynamic=False)
    found = torch.autograd.grad(whole(*leaves)[0].float().sum(), leaves)
    expected = torch.autograd.grad(wkv6(*leaves, backend="triton")[0].float().sum(), leaves)
    for a, b in zip(expected, found, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def test_operators_keep_the_rules_of_torch() -> None:
    r, k, v, w_raw, u, state = (x.float().to(DEVICE).requires_grad_() for x in inputs(5, 0.0, B=1))
    torch.library.opcheck(triton_backward.wkv6_differentiable, (r, k, v, w_raw, u, state))
    torch.library.opcheck(triton_backward.wkv6_differentiable, (r, k, v, w_raw, None, None))
