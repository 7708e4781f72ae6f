"""Which form of WKV6 runs: by argument, by GF_KERNELS, by itself."""

from __future__ import annotations

import pytest
import torch
from gfkernels import BackendUnavailable, wkv6, wkv6_chunked, wkv6_recurrent
from gfkernels.native.build import unavailable
from gfkernels.wkv.native_gradients import wkv6_differentiable

from tests import tolerances
from tests.kernels.given import gradients, inputs, relative, rows, square_inputs

needs_native = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


def test_dispatch_obeys_argument_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    r, k, v, w_raw, u, state = inputs(20, 0.0)
    expected, _ = wkv6_recurrent(r, k, v, w_raw, u, state)
    assert torch.equal(wkv6(r, k, v, w_raw, u, state, backend="reference")[0], expected)
    monkeypatch.setenv("GF_KERNELS", "reference")
    assert torch.equal(wkv6(r, k, v, w_raw, u, state)[0], expected)
    monkeypatch.setenv("GF_KERNELS", "nonsense")
    with pytest.raises(BackendUnavailable, match="nonsense"):
        wkv6(r, k, v, w_raw, u, state)


@needs_native
def test_native_runs_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
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


@needs_native
def test_gradients_are_native_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients come from C on the CPU by themselves, from torch where it is asked for or C cannot."""
    given = list(square_inputs(1, 40, 2, 16, 0.0))
    native_ones = gradients(wkv6_differentiable, given, torch.float32)
    chunked = gradients(wkv6_chunked, given, torch.float32)
    assert not torch.equal(native_ones[0], chunked[0])  # so that the comparisons below can fail
    assert torch.equal(gradients(wkv6, given, torch.float32)[0], native_ones[0])
    exact = gradients(wkv6_chunked, given, torch.float64)
    assert torch.equal(gradients(wkv6, given, torch.float64)[0], exact[0])
    monkeypatch.setenv("GF_KERNELS", "torch")
    assert torch.equal(gradients(wkv6, given, torch.float32)[0], chunked[0])
    monkeypatch.setenv("GF_KERNELS", "native")
    assert torch.equal(gradients(wkv6, given, torch.float32)[0], native_ones[0])
    with pytest.raises(BackendUnavailable, match="float64"):
        gradients(wkv6, given, torch.float64)
