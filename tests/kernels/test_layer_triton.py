"""The Triton kernels between matrix products, attention and the rebuild of keys, against plain formulas in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from gfkernels import attend_block
from torch import Tensor

from tests.kernels.test_wkv6 import relative
from tests.poison import poison_outputs

pytest.importorskip("triton")
from gfkernels.attention import triton as attention_triton
from gfkernels.layer import triton as layer_triton
from gfkernels.rebuild import triton as rebuild_triton

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's exp(1e4)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BF16 = pytest.param(torch.bfloat16, marks=pytest.mark.gpu)
DTYPES = [torch.float32, torch.float16, BF16]
LIMITS = {torch.float32: 2e-6, torch.float16: 2**-10, torch.bfloat16: 2**-7}
# Through a matrix product whose factors may be rounded too.
PRODUCT_LIMITS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@pytest.fixture(autouse=True)
def _poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    poison_outputs(monkeypatch, layer_triton, attention_triton, rebuild_triton)


def rows(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def close(found: Tensor, expected: Tensor, limit: float) -> None:
    assert torch.isfinite(found).all()
    assert relative(found, expected) <= limit


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
    close(layer_triton.shift_lerps(h, before, mixes[:2].contiguous(), starts), expected, LIMITS[dtype])
    z, w2 = rows(T, G * 32, dtype=dtype, seed=3) * 3, rows(G, 32, C, dtype=dtype, seed=4) / 8
    dynamic = torch.einsum("tgr,grc->gtc", torch.tanh(z.double()).view(T, G, 32), w2.double())
    expected = h.double() + shift * (mixes[:, None].double() + dynamic)
    close(layer_triton.shift_ddlerp(h, before, mixes, z, w2, starts), expected, PRODUCT_LIMITS[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("T", "C"), [(1, 16), (7, 40), (33, 192)])
def test_norms(T: int, C: int, dtype: torch.dtype) -> None:
    x, add, more, gate = (rows(T, C, dtype=dtype, seed=s) for s in range(4))
    weight, bias = rows(C, seed=4), rows(C, seed=5)

    def norm(total: Tensor) -> Tensor:
        return F.layer_norm(total, (C,), weight.double(), bias.double())

    same = x.clone()
    close(layer_triton.add_norm(same, None, weight, bias, 1e-5), norm(x.double()), LIMITS[dtype])
    assert torch.equal(same, x)
    for g, m in ((None, None), (gate, None), (None, more)):
        total = x.double() + (1 if g is None else torch.sigmoid(g.double())) * add.double()
        total += 0 if m is None else m.double()
        summed = x.clone()
        found = layer_triton.add_norm(summed, add, weight, bias, 1e-5, gate=g, more=m)
        close(summed, total, LIMITS[dtype])
        close(found, norm(total), LIMITS[dtype])
    kept = x.clone()
    layer_triton.add_norm(kept, add, weight, bias, 1e-5, store_sum=False)
    assert torch.equal(kept, x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_elementwise(dtype: torch.dtype) -> None:
    x, gate, value = (rows(77, 33, dtype=dtype, seed=s) * 5 for s in range(3))
    close(layer_triton.relu_squared(x.clone()), torch.relu(x.double()).square(), LIMITS[dtype])
    out = x.clone()
    layer_triton.gate_add(out, gate, value)
    close(out, x.double() + torch.sigmoid(gate.double()) * value.double(), LIMITS[dtype])
    extreme = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4], dtype=dtype, device=DEVICE)
    out = torch.zeros_like(extreme)
    layer_triton.gate_add(out, extreme, torch.ones_like(extreme))
    assert out.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert rebuild_triton.tanh(extreme.clone()).tolist() == [-1.0, -1.0, 0.0, 1.0, 1.0]
    small = torch.logspace(-4, 1, 50, device=DEVICE).to(dtype)
    found = rebuild_triton.tanh(small.clone()).double()
    assert float((found / torch.tanh(small.double()) - 1).abs().max()) <= max(
        LIMITS[dtype], 2**-10 * (dtype != torch.float32)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("B", "shared", "Tq", "Tk", "D"),
    [(1, True, 1, 1, 64), (2, True, 5, 300, 24), (2, False, 9, 130, 16), (1, True, 70, 600, 64)],
)
def test_attention_in_splits(B: int, shared: bool, Tq: int, Tk: int, D: int, dtype: torch.dtype) -> None:
    H = 2
    q = rows(B, Tq, H * D, dtype=dtype).unflatten(-1, (H, D)).transpose(1, 2)
    k, v = (
        rows(1 if shared else B, Tk, H * D, dtype=dtype, seed=s).unflatten(-1, (H, D)).transpose(1, 2) for s in (1, 2)
    )
    q_start = Tk - Tq
    out, lse = attention_triton.attend_split(q, k, v, q_start)
    exact, exact_lse = attend_block(q.double(), k.double(), v.double(), q_start, 0)
    close(out, exact, PRODUCT_LIMITS[dtype])
    assert float((lse - exact_lse).abs().max()) <= 20 * PRODUCT_LIMITS[dtype]


def test_queries_that_see_nothing_and_buffers_that_grow() -> None:
    q = rows(1, 2, 4, 16)
    k, v = rows(1, 2, 100, 16, seed=1), rows(1, 2, 100, 16, seed=2)
    out, lse = attention_triton.attend_split(q, k, v, q_start=0, k_start=2)
    expected, expected_lse = attend_block(q, k, v, 0, 2)
    assert bool((lse[:, :, :2] == -torch.inf).all())
    assert bool((out[:, :, :2] == 0).all())
    close(out, expected, 1e-5)
    close(lse[:, :, 2:], expected_lse[:, :, 2:], 1e-5)
    length = torch.tensor([37], device=DEVICE)
    out, lse = attention_triton.attend_split(q, k, v, -1, 5, length)
    expected, expected_lse = attend_block(q, k[:, :, :37], v[:, :, :37], 5 + 37 - 4, 5)
    close(out, expected, 1e-5)
    close(lse, expected_lse, 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rebuilding_keys(dtype: torch.dtype) -> None:
    T, C, R, U = 40, 80, 12, 7
    ids = torch.randint(0, U, (T,), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    c, table, weight = rows(T, R, dtype=dtype), rows(U, C, dtype=dtype, seed=1), rows(C, C + R, dtype=dtype, seed=2)
    found, scales = rebuild_triton.k_cache_rows(ids, c, table, weight[:, C:])
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
            out = rebuild_triton.mixed_rows(source, given, ids, (now, before), group, w2, mix, first)
            close(out, expected[first:], PRODUCT_LIMITS[dtype])
