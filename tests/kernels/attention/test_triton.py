"""Attention in splits in Triton, against attention over one block."""

from __future__ import annotations

import pytest
import torch
from gfkernels import attend_block

from tests.kernels.triton_given import DEVICE, DTYPES, PRODUCT_LIMITS, close, rows
from tests.poison import poison_outputs

pytest.importorskip("triton")
from gfkernels.attention import triton as kernels

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's exp(1e4)


@pytest.fixture(autouse=True)
def _poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    poison_outputs(monkeypatch, kernels)


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
    out, lse = kernels.attend_split(q, k, v, q_start)
    exact, exact_lse = attend_block(q.double(), k.double(), v.double(), q_start, 0)
    close(out, exact, PRODUCT_LIMITS[dtype])
    assert float((lse - exact_lse).abs().max()) <= 20 * PRODUCT_LIMITS[dtype]


def test_queries_that_see_nothing_and_buffers_that_grow() -> None:
    q = rows(1, 2, 4, 16)
    k, v = rows(1, 2, 100, 16, seed=1), rows(1, 2, 100, 16, seed=2)
    out, lse = kernels.attend_split(q, k, v, q_start=0, k_start=2)
    expected, expected_lse = attend_block(q, k, v, 0, 2)
    assert bool((lse[:, :, :2] == -torch.inf).all())
    assert bool((out[:, :, :2] == 0).all())
    close(out, expected, 1e-5)
    close(lse[:, :, 2:], expected_lse[:, :, 2:], 1e-5)
    length = torch.tensor([37], device=DEVICE)
    out, lse = kernels.attend_split(q, k, v, -1, 5, length)
    expected, expected_lse = attend_block(q, k[:, :, :37], v[:, :, :37], 5 + 37 - 4, 5)
    close(out, expected, 1e-5)
    close(lse, expected_lse, 1e-5)
