"""The C kernels against formulas in float64, and what happens where they cannot be had."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from gfkernels import BackendUnavailable, dispatch, native, wkv6, wkv6_recurrent
from torch import Tensor

from tests import tolerances
from tests.kernels.test_wkv6 import relative
from tests.poison import poison_outputs

LENGTHS = [1, 3, 15, 31, 32, 33, 63, 64, 65, 200]
DTYPES = [torch.float32, torch.bfloat16]
pytestmark = pytest.mark.skipif(native.unavailable() is not None, reason=str(native.unavailable()))


@pytest.fixture(autouse=True)
def _poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    poison_outputs(monkeypatch, native)


def close(found: Tensor, expected: Tensor) -> None:
    """Equal up to the rounding of the dtype of `found`."""
    limit = 2**-8 if found.dtype == torch.bfloat16 else 2e-6
    assert torch.isfinite(found).all()
    assert relative(found, expected) <= limit


def rows(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


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
        found = native.sum_norm(y.clone(), a, b, weight, bias, 1e-5, dtype)
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
        close(dispatch.linear(x[None, None], weight)[0, 0], weight.double() @ x.double())


@pytest.mark.parametrize("dtype", DTYPES)
def test_channel_mix_parts(dtype: torch.dtype) -> None:
    x, gate, value = (rows(77, 33, dtype=dtype, seed=s) * 5 for s in range(3))
    close(native.tanh(x.clone()), torch.tanh(x.double()))
    small = torch.logspace(-30, 2, 200).to(dtype)
    for sign in (1, -1):
        found, expected = native.tanh(sign * small).double(), torch.tanh((sign * small).double())
        assert float((found / expected - 1).abs().max()) <= (2**-8 if dtype == torch.bfloat16 else 1e-6)
    close(native.relu_squared(x.clone()), torch.relu(x.double()).square())
    out = x.clone()
    native.gate_add(out, gate, value)
    close(out, x.double() + torch.sigmoid(gate.double()) * value.double())
    extreme = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4], dtype=dtype)
    out = torch.zeros(5, dtype=dtype)
    native.gate_add(out, extreme, torch.ones(5, dtype=dtype))
    assert out.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize("w_high", [-3.0, 0.0, 3.0, 20.0, 1000.0])
@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize(
    ("dtype", "D"), [(torch.float32, 16), (torch.float32, 48), (torch.float32, 128), (torch.bfloat16, 64)]
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


def test_dispatch(monkeypatch: pytest.MonkeyPatch) -> None:
    r, k, v, w_raw = (rows(2, 40, 3, 16, dtype=torch.float32, seed=s) for s in range(4))
    u, state = rows(3, 16, dtype=torch.float32, seed=4), rows(2, 3, 16, 16, dtype=torch.float32, seed=5)
    y, end = wkv6_recurrent(r, k, v, w_raw, u, state)
    for arguments in ({"backend": "native"}, {}):
        found, found_end = wkv6(r, k, v, w_raw, u, state, **arguments)
        assert relative(found, y) <= tolerances.WKV6_FP32
        assert relative(found_end, end) <= tolerances.WKV6_FP32
        monkeypatch.setenv("GF_KERNELS", "native")
    with pytest.raises(BackendUnavailable, match="float64"):
        wkv6(*(x.double() for x in (r, k, v, w_raw)), backend="native")


@pytest.mark.parametrize("compiler", ["/nonexistent/cc", "false"])
def test_without_a_working_compiler(compiler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Automatic choice takes torch; asked for by name, it is an error that says why."""
    monkeypatch.setenv("CC", compiler)
    native.loaded.cache_clear()
    native.unavailable.cache_clear()
    try:
        reason = native.unavailable()
        assert reason is not None
        assert compiler in reason
        assert dispatch.choose_backend("x", native_obstacle=reason) == "torch"
        with pytest.raises(BackendUnavailable, match="cannot build"):
            dispatch.choose_backend("x", "native", native_obstacle=reason)
    finally:
        monkeypatch.undo()
        native.loaded.cache_clear()
        native.unavailable.cache_clear()
    assert native.unavailable() is None
