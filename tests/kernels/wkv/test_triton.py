"""WKV6 in Triton against the sequential twin: interpreted on the CPU, compiled where there is a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gfkernels import BackendUnavailable, KernelInputError, dispatch, wkv6, wkv6_recurrent
from safetensors.torch import load_file
from torch import Tensor

from tests import tolerances
from tests.conftest import SMALL_GOLDEN
from tests.kernels.given import inputs, relative
from tests.kernels.triton_given import DEVICE
from tests.kernels.wkv.on_device import HALVES, LIMITS, mixed_decays, on_device
from tests.poison import poison_outputs

pytest.importorskip("triton")
from gfkernels.wkv import triton
from gfkernels.wkv.triton import wkv6_step_triton, wkv6_triton

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's exp(1000)


@pytest.fixture(autouse=True)
def _poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    poison_outputs(monkeypatch, triton)


def check(tensors: list[Tensor], dtype: torch.dtype = torch.float32, **options: object) -> None:
    """Against the twin in float64 on the same rounded values."""
    given = on_device(tensors, dtype)
    y, end = wkv6_recurrent(*(x.double().cpu() for x in given))
    found, found_end = wkv6_triton(*given, **options)  # type: ignore[arg-type]
    assert found.dtype == dtype
    assert found_end.dtype == torch.float32
    assert torch.isfinite(found).all()
    assert relative(found.cpu(), y) <= LIMITS[dtype]
    assert relative(found_end.cpu(), end) <= LIMITS[dtype]


@pytest.mark.parametrize("w_high", [0.0, 3.0])
@pytest.mark.parametrize("T", [1, 15, 63, 64, 65, 200])
def test_equals_the_twin(T: int, w_high: float) -> None:
    check(inputs(T, w_high, B=1, H=1))


@pytest.mark.slow
@pytest.mark.parametrize("w_high", [-3.0, 1.3, 2.0, 5.0, 20.0, 1000.0])
def test_every_decay(w_high: float) -> None:
    check(inputs(37, w_high))


def test_slow_decays_beside_steep_ones() -> None:
    """A sum that is the difference of two large ones would have lost its digits."""
    check(mixed_decays(50))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("w_high", [0.0, 3.0])
def test_segments_of_half_precision_rows(w_high: float, dtype: torch.dtype) -> None:
    check(inputs(150, w_high, H=1), dtype, segment=48)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("T", "w_high"), [(1, 0.0), (65, 0.0), (65, 3.0), (200, 1.0)])
def test_half_precision_rows(T: int, w_high: float, dtype: torch.dtype) -> None:
    check(inputs(T, w_high, B=1), dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("w_high", [0.0, 3.0])
def test_long_on_the_gpu(w_high: float, dtype: torch.dtype) -> None:
    check(inputs(1500, w_high, B=2, H=3, K=64, V=64), dtype)
    check(inputs(700, w_high, B=1, H=2, K=128, V=96), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("segment", [16, 48, 208])
@pytest.mark.parametrize("with_state", [True, False])
def test_segments_side_by_side(segment: int, with_state: bool) -> None:
    r, k, v, w_raw, _u, state = inputs(150, 1.5, H=1)
    given = on_device([r, k, v, w_raw], torch.float32)
    before = state if with_state else None
    y, end = wkv6_recurrent(r, k, v, w_raw, None, before)
    before = None if before is None else before.float().to(DEVICE)
    found, found_end = wkv6_triton(*given, None, before, segment=segment)
    assert relative(found.cpu(), y) <= tolerances.WKV6_FP32
    assert relative(found_end.cpu(), end) <= tolerances.WKV6_FP32


@pytest.fixture(params=[False, True], ids=["in order", "in reverse"])
def _programs_in_any_order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU they run in no order; the interpreter takes one after the other."""
    if not request.param or DEVICE != "cpu":
        return
    from triton.runtime.interpreter import InterpreterBuilder

    set_grid_idx = InterpreterBuilder.set_grid_idx

    def reversed_idx(self: Any, x: int, y: int, z: int) -> None:
        last = [n - 1 for n in self.grid_dim]
        set_grid_idx(self, last[0] - x, last[1] - y, last[2] - z)

    monkeypatch.setattr(InterpreterBuilder, "set_grid_idx", reversed_idx)


@pytest.mark.slow
@pytest.mark.usefixtures("_programs_in_any_order")
@pytest.mark.parametrize("segment", [32, 256])
@pytest.mark.parametrize("lengths", [[1, 70, 0, 33], [40, 0], [0, 0, 35, 0, 0]])
def test_packed_documents(segment: int, lengths: list[int]) -> None:
    """Each document from its own state, as if it stood alone; some are empty."""
    r, k, v, w_raw, u, _ = inputs(sum(lengths), 1.0, B=1, H=2)
    states = torch.randn(len(lengths), 2, 24, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    given = on_device([r, k, v, w_raw, u, states], torch.float32)
    found, found_end = wkv6_triton(*given, cu_seqlens=bounds, segment=segment)
    for n, length in enumerate(lengths):
        at = slice(int(bounds[n]), int(bounds[n]) + length)
        y, end = wkv6_recurrent(r[:, at], k[:, at], v[:, at], w_raw[:, at], u, states[n : n + 1])
        assert relative(found_end[n : n + 1].cpu(), end) <= tolerances.WKV6_FP32
        if length:
            assert relative(found[:, at].cpu(), y) <= tolerances.WKV6_FP32


def test_static_decay_and_one_minus_w() -> None:
    """The parts of a Finch-C2 layer that the kernel takes over; slow decays lose nothing in 1 - w."""
    r, k, v, w_low, decay, state = inputs(40, 0.0, H=2)
    w_low[:, :, 0] = -14.0
    w_raw = w_low + decay
    k_scaled = k * -torch.expm1(-torch.exp(w_raw))
    y, end = wkv6_recurrent(r, k_scaled, v, w_raw, None, state)
    given = on_device([r, k, v, w_low, decay, state], torch.float32)
    rows, decay_32, state_32 = given[:4], given[4], given[5]
    found, found_end = wkv6_triton(*rows, None, state_32, decay=decay_32, one_minus_w=True)
    assert relative(found.cpu(), y) <= tolerances.WKV6_FP32
    assert relative(found_end.cpu(), end) <= tolerances.WKV6_FP32
    one = [x[:, :1] for x in rows]
    y, end = wkv6_recurrent(r[:, :1], k_scaled[:, :1], v[:, :1], w_raw[:, :1], None, state)
    kept = state_32.clone()
    found, found_end = wkv6_step_triton(*one, None, kept, decay=decay_32, one_minus_w=True, out_state=kept)
    assert found_end is kept
    assert relative(found.cpu(), y) <= tolerances.WKV6_FP32
    assert relative(kept.cpu(), end) <= tolerances.WKV6_FP32


@pytest.mark.parametrize("w_high", [2.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_one_token_step(w_high: float, dtype: torch.dtype) -> None:
    given = on_device(inputs(1, w_high), dtype)
    y, end = wkv6_recurrent(*(x.double().cpu() for x in given))
    found, found_end = wkv6_step_triton(*given)
    assert relative(found.cpu(), y) <= LIMITS[dtype]
    assert relative(found_end.cpu(), end) <= LIMITS[dtype]


@pytest.mark.parametrize("case", [0, 1, 5])
def test_reference_vectors(case: int) -> None:
    vectors = load_file(SMALL_GOLDEN / "ops" / "wkv6_op.safetensors")
    names = ("r", "k", "v", "w", "u", "s0")
    found, found_end = wkv6_triton(*(vectors[f"case{case}.{name}"].to(DEVICE) for name in names))
    assert relative(found.cpu(), vectors[f"case{case}.y"]) <= tolerances.WKV6_FP32
    assert relative(found_end.cpu(), vectors[f"case{case}.s1"]) <= tolerances.WKV6_FP32


def test_strided_input_and_untouched_arguments() -> None:
    given = on_device(inputs(33, 0.0), torch.float32)
    strided = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in given[:3]]
    strided.append(given[3].permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2))  # channels not adjacent
    copies = [x.clone() for x in (*strided, *given[4:])]
    y, end = wkv6_triton(*strided, *given[4:])
    expected, expected_end = wkv6_triton(*given)
    assert torch.equal(y, expected)
    assert torch.equal(end, expected_end)
    assert all(torch.equal(a, b) for a, b in zip(copies, (*strided, *given[4:]), strict=True))


def test_no_tokens_leave_the_state() -> None:
    given = on_device(inputs(3, 0.0), torch.float32)
    y, end = wkv6_triton(*(x[:, :0] for x in given[:4]), *given[4:])
    assert y.shape == (2, 0, 2, 24)
    assert torch.equal(end, given[5])


def test_dispatch(monkeypatch: pytest.MonkeyPatch) -> None:
    given = on_device(inputs(20, 0.0), torch.float32)
    expected = wkv6_triton(*given)[0]
    assert torch.equal(wkv6(*given, backend="triton")[0], expected)
    monkeypatch.setenv("GF_KERNELS", "triton")
    assert torch.equal(wkv6(*given)[0], expected)
    with pytest.raises(BackendUnavailable, match="float64"):
        wkv6(*(x.double() for x in given))
    with pytest.raises(KernelInputError, match="cu_seqlens"):
        wkv6_triton(*(x[:1] for x in given[:4]), cu_seqlens=torch.tensor([0, 7]))
    monkeypatch.delenv("GF_KERNELS")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert dispatch.triton_obstacle(torch.device("cpu"), torch.float32) is not None
    with pytest.raises(BackendUnavailable, match="needs a GPU"):
        wkv6(*(x.cpu() for x in given), backend="triton")
    monkeypatch.setattr(dispatch, "triton_is_installed", lambda: False)
    with pytest.raises(BackendUnavailable, match="not installed"):
        wkv6(*given, backend="triton")
    assert torch.equal(wkv6(*given)[0], wkv6(*given, backend="torch")[0])
