"""The Triton kernels between matrix products, against plain formulas in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.kernels.triton_given import DEVICE, DTYPES, LIMITS, PRODUCT_LIMITS, close, rows
from tests.poison import poison_outputs

pytest.importorskip("triton")
from gfkernels.layer import triton as kernels

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's exp(1e4)


@pytest.fixture(autouse=True)
def _poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    poison_outputs(monkeypatch, kernels)


def shifts(h: Tensor, before: Tensor | None, lengths: list[int]) -> Tensor:
    """Token shift of documents behind each other, float64."""
    parts, at = [], 0
    for n, length in enumerate(lengths):
        part = h[at : at + length].double()
        first = torch.zeros_like(part[:1]) if before is None else before[n : n + 1].double()
        parts.append(torch.cat([first, part[:-1]]) - part)
        at += length
    return torch.cat(parts)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("lengths", "C"), [([1], 48), ([65], 300), ([33, 1, 40], 48)])
@pytest.mark.parametrize("with_before", [True, False])
def test_shifts(lengths: list[int], C: int, dtype: torch.dtype, with_before: bool) -> None:
    T, G = sum(lengths), 5
    h, mixes = rows(T, C, dtype=dtype), rows(G, C, seed=1)
    before = rows(len(lengths), C, dtype=dtype, seed=2) if with_before else None
    starts = None
    if len(lengths) > 1:
        starts = torch.full((T,), -1, dtype=torch.int32, device=DEVICE)
        starts[torch.tensor([0, *lengths[:-1]]).cumsum(0).to(DEVICE)] = torch.arange(
            len(lengths), dtype=torch.int32, device=DEVICE
        )
    shift = shifts(h, before, lengths)
    expected = h.double() + shift * mixes[:2, None].double()
    close(kernels.shift_lerps(h, before, mixes[:2].contiguous(), starts), expected, LIMITS[dtype])
    z, w2 = rows(T, G * 32, dtype=dtype, seed=3) * 3, rows(G, 32, C, dtype=dtype, seed=4) / 8
    dynamic = torch.einsum("tgr,grc->gtc", torch.tanh(z.double()).view(T, G, 32), w2.double())
    expected = h.double() + shift * (mixes[:, None].double() + dynamic)
    close(kernels.shift_ddlerp(h, before, mixes, z, w2, starts), expected, PRODUCT_LIMITS[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("T", "C"), [(1, 16), (7, 40), (33, 192)])
def test_norms(T: int, C: int, dtype: torch.dtype) -> None:
    x, add, more, gate = (rows(T, C, dtype=dtype, seed=s) for s in range(4))
    weight, bias = rows(C, seed=4), rows(C, seed=5)

    def norm(total: Tensor) -> Tensor:
        return F.layer_norm(total, (C,), weight.double(), bias.double())

    same = x.clone()
    close(kernels.add_norm(same, None, weight, bias, 1e-5), norm(x.double()), LIMITS[dtype])
    assert torch.equal(same, x)
    for g, m in ((None, None), (gate, None), (None, more)):
        total = x.double() + (1 if g is None else torch.sigmoid(g.double())) * add.double()
        total += 0 if m is None else m.double()
        summed = x.clone()
        found = kernels.add_norm(summed, add, weight, bias, 1e-5, gate=g, more=m)
        close(summed, total, LIMITS[dtype])
        close(found, norm(total), LIMITS[dtype])
    kept = x.clone()
    kernels.add_norm(kept, add, weight, bias, 1e-5, store_sum=False)
    assert torch.equal(kept, x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_elementwise(dtype: torch.dtype) -> None:
    x, gate, value = (rows(77, 33, dtype=dtype, seed=s) * 5 for s in range(3))
    close(kernels.relu_squared(x.clone()), torch.relu(x.double()).square(), LIMITS[dtype])
    out = x.clone()
    kernels.gate_add(out, gate, value)
    close(out, x.double() + torch.sigmoid(gate.double()) * value.double(), LIMITS[dtype])
    extreme = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4], dtype=dtype, device=DEVICE)
    out = torch.zeros_like(extreme)
    kernels.gate_add(out, extreme, torch.ones_like(extreme))
    assert out.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
