"""Keys and values rebuilt in Triton, against plain formulas in float64."""

from __future__ import annotations

import pytest
import torch

from tests.kernels.triton_given import DEVICE, DTYPES, LIMITS, PRODUCT_LIMITS, close, rows
from tests.poison import poison_outputs

pytest.importorskip("triton")
from gfkernels.rebuild import triton as kernels

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's exp(1e4)


@pytest.fixture(autouse=True)
def _poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    poison_outputs(monkeypatch, kernels)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh(dtype: torch.dtype) -> None:
    extreme = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4], dtype=dtype, device=DEVICE)
    assert kernels.tanh(extreme.clone()).tolist() == [-1.0, -1.0, 0.0, 1.0, 1.0]
    small = torch.logspace(-4, 1, 50, device=DEVICE).to(dtype)
    found = kernels.tanh(small.clone()).double()
    assert float((found / torch.tanh(small.double()) - 1).abs().max()) <= max(
        LIMITS[dtype], 2**-10 * (dtype != torch.float32)
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_rebuilding_keys(dtype: torch.dtype) -> None:
    T, C, R, U = 40, 80, 12, 7
    ids = torch.randint(0, U, (T,), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    c, table, weight = rows(T, R, dtype=dtype), rows(U, C, dtype=dtype, seed=1), rows(C, C + R, dtype=dtype, seed=2)
    found, scales = kernels.k_cache_rows(ids, c, table, weight[:, C:])
    exact = table.double()[ids] + c.double() @ weight[:, C:].double().t()
    kappa = exact / (exact.pow(2).mean(-1, keepdim=True).sqrt() + 1e-8)
    close(found.double() * scales[:, None].double(), kappa, PRODUCT_LIMITS[dtype])

    now, before = rows(U, 64, seed=3), rows(U, 64, seed=4)
    w2, mix = rows(32, C, dtype=dtype, seed=5) / 8, rows(C, seed=6)
    ids_before = torch.cat([ids[:1], ids[:-1]])
    z = now.double()[ids] + before.double()[ids_before] * (torch.arange(T, device=DEVICE) > 0)[:, None]
    for group, (source, given) in enumerate(((found, scales), (table, None))):
        full = source.double()[ids] if given is None else source.double() * given[:, None].double()
        shift = torch.cat([torch.zeros_like(full[:1]), full[:-1]]) - full
        expected = full + shift * (mix.double() + torch.tanh(z[:, 32 * group : 32 * group + 32]) @ w2.double())
        for first in (0, 1):
            out = kernels.mixed_rows(source, given, ids, (now, before), group, w2, mix, first)
            close(out, expected[first:], PRODUCT_LIMITS[dtype])
