"""The C kernels between matrix products, and the product of one row, against formulas in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gfkernels import linear
from gfkernels.layer import native
from gfkernels.layer.product import product
from gfkernels.native.build import unavailable
from torch import Tensor

from tests.kernels.given import relative, rows
from tests.poison import poison_outputs

LENGTHS = [1, 3, 15, 31, 32, 33, 63, 64, 65, 200]
DTYPES = [torch.float32, torch.bfloat16]
pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


@pytest.fixture(autouse=True)
def _poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    poison_outputs(monkeypatch, native)


def close(found: Tensor, expected: Tensor) -> None:
    """Equal up to the rounding of the dtype of `found`."""
    limit = 2**-8 if found.dtype == torch.bfloat16 else 2e-6
    assert torch.isfinite(found).all()
    assert relative(found, expected) <= limit


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize("with_before", [True, False])
def test_shifts(T: int, dtype: torch.dtype, with_before: bool) -> None:
    C, G = 48, 5
    h, mix = rows(T, C, dtype=dtype), rows(G, C, dtype=torch.float32, seed=1)
    before = rows(C, dtype=dtype, seed=2) if with_before else None
    dynamic = rows(G, T, C, dtype=dtype, seed=3)
    first = torch.zeros(1, C).double() if before is None else before[None].double()
    shift = torch.cat([first, h[:-1].double()]) - h.double()
    close(native.shift_lerp(h, before, mix[0]), h.double() + shift * mix[0].double())
    expected = h.double() + shift * (mix[:, None].double() + dynamic.double())
    close(native.shift_ddlerp(h, before, mix, dynamic), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("T", [1, 33, 200])
@pytest.mark.parametrize("C", [16, 40, 192])
def test_norms(T: int, C: int, dtype: torch.dtype) -> None:
    x, add, more = (rows(T, C, dtype=dtype, seed=s) for s in range(3))
    weight, bias = rows(C, dtype=torch.float32, seed=4), rows(C, dtype=torch.float32, seed=5)
    plain = x.clone()
    h = native.add_norm(plain, None, weight, bias, 1e-5)
    assert torch.equal(plain, x)
    close(h, F.layer_norm(x.double(), (C,), weight.double(), bias.double()))
    summed = x.clone()
    h = native.add_norm(summed, add, weight, bias, 1e-5)
    close(summed, x.double() + add.double())
    close(h, F.layer_norm(summed.double(), (C,), weight.double(), bias.double()))
    rms = x.double().pow(2).mean(-1, keepdim=True).sqrt()
    close(native.rms_scale(x), x.double() / (rms + 1e-8))
    y = rows(T, C, dtype=torch.float32, seed=6)
    for a, b in ((None, None), (add, None), (add, more)):
        total = y.double() + (0 if a is None else a.double()) + (0 if b is None else b.double())
        found = native.sum_norm(y.clone(), a, b, weight, bias, 1e-5, torch.empty(0, dtype=dtype))
        close(found, F.layer_norm(total, (C,), weight.double(), bias.double()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("N", "K"), [(1, 16), (3, 33), (4, 64), (193, 192), (1000, 7)])
def test_matvec(N: int, K: int, dtype: torch.dtype) -> None:
    weight, x = rows(N, K, dtype=dtype), rows(K, dtype=dtype, seed=1)
    assert not native.matvec_fits(weight, x) or not torch.is_grad_enabled()
    close(native.matvec(weight, x), weight.double() @ x.double())
    with torch.no_grad():
        assert native.matvec_fits(weight, x[None, None])
        assert not native.matvec_fits(weight, x.expand(2, K))
        close(linear(x[None, None], weight)[0, 0], weight.double() @ x.double())


@pytest.mark.parametrize("dtype", DTYPES)
def test_channel_mix_parts(dtype: torch.dtype) -> None:
    x, gate, value = (rows(77, 33, dtype=dtype, seed=s) * 5 for s in range(3))
    close(native.tanh(x.clone()), torch.tanh(x.double()))
    small = torch.logspace(-30, 2, 200).to(dtype)
    for sign in (1, -1):
        found, expected = native.tanh(sign * small).double(), torch.tanh((sign * small).double())
        assert float((found / expected - 1).abs().max()) <= (2**-8 if dtype == torch.bfloat16 else 1e-6)
    close(native.relu_squared(x.clone()), torch.relu(x.double()).square())
    close(native.gelu(x.clone()), F.gelu(x.double()))
    out = x.clone()
    native.gate_add(out, gate, value)
    close(out, x.double() + torch.sigmoid(gate.double()) * value.double())
    extreme = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4], dtype=dtype)
    out = torch.zeros(5, dtype=dtype)
    native.gate_add(out, extreme, torch.ones(5, dtype=dtype))
    assert out.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_rows_of_numpy_give_the_same_bits() -> None:
    """The kernels take addresses: whose they are changes nothing."""
    h, previous, x = (rows(9, 32, dtype=torch.float32, seed=s) for s in range(3))
    mix, weight, dynamic = h[0].clone(), rows(5, 32, dtype=torch.float32, seed=4), rows(2, 9, 32, dtype=torch.float32)
    forms: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (native.shift_lerp, (h, None, mix, previous)),
        (native.shift_ddlerp, (h, mix, torch.stack([mix, mix]), dynamic)),
        (native.add_norm, (h.clone(), x, mix, mix, 1e-5)),
        (native.sum_norm, (h.clone(), x, None, mix, mix, 1e-5, h)),
        (native.rms_scale, (h,)),
        (native.gelu, (h.clone(),)),
        (native.tanh, (h.clone(),)),
        (native.matvec, (weight, mix)),
        (product, (mix[None], weight)),
    ]
    for form, given in forms:
        as_numpy = [one.numpy().copy() if isinstance(one, Tensor) else one for one in given]
        found = form(*as_numpy)
        assert isinstance(found, np.ndarray)
        with torch.no_grad():
            assert np.array_equal(found, form(*given).numpy())
