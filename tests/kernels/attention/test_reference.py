"""Attention in pieces against attention written out in full."""

from __future__ import annotations

import pytest
import torch
from gfkernels import attend_block, attend_expanded, attention_ref, causal_attention, merge_partials
from gfkernels.attention import reference as attention_module
from torch import Tensor


def qkv(Tq: int, Tk: int, K: int = 16, V: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    return normal(2, 3, Tq, K), normal(2, 3, Tk, K), normal(2, 3, Tk, V)


@pytest.mark.parametrize("cuts", [[200], [1, 199], [63, 64, 73], [195, 5], [199, 1]])
@pytest.mark.parametrize("Tq", [1, 5, 65, 200])
def test_pieces_merge_to_the_whole(Tq: int, cuts: list[int]) -> None:
    q, k, v = qkv(Tq, 200)
    start, partials = 0, []
    for n in cuts:
        partials.append(attend_block(q, k[:, :, start : start + n], v[:, :, start : start + n], 200 - Tq, start))
        start += n
    found, _ = merge_partials(partials)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, attention_ref(q, k, v, 200 - Tq), rtol=0, atol=1e-12)


def test_expanded_keys_are_cut_when_scores_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = qkv(7, 1500)
    monkeypatch.setattr(attention_module, "MAX_SCORE_ELEMENTS", 1)
    partials = list(attend_expanded(q, k, v, 1493))
    assert len(partials) > 2
    torch.testing.assert_close(merge_partials(partials)[0], attention_ref(q, k, v, 1493), rtol=0, atol=1e-12)


def test_a_query_that_sees_nothing_of_a_piece_adds_nothing() -> None:
    q, k, v = qkv(4, 10)
    out, lse = attend_block(q, k, v, q_start=0, k_start=2)
    assert bool((lse[:, :, :2] == -torch.inf).all())
    assert bool((out[:, :, :2] == 0).all())
    both, _ = merge_partials([(out, lse), (out, lse)])
    assert torch.isfinite(both).all()


def test_whole_sequence_form() -> None:
    q, k, v = qkv(50, 50)
    torch.testing.assert_close(causal_attention(q, k, v), attention_ref(q, k, v, 0), rtol=0, atol=1e-12)


def test_batch_of_questions_over_one_document() -> None:
    q, k, v = qkv(3, 40)
    out, _ = attend_block(q, k[:1], v[:1], 40, 0)
    expected = attention_ref(q, k[:1].expand_as(k), v[:1].expand_as(v), 40)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize(("Tq", "Tk"), [(1, 1), (1, 65), (5, 200), (65, 200), (200, 200)])
def test_keys_that_all_queries_see_take_the_flash_kernel(dtype: torch.dtype, limit: float, Tq: int, Tk: int) -> None:
    """Without gradients, in the layout of the model: heads cut from rows (B, T, C)."""
    g = torch.Generator().manual_seed(0)
    rows = [torch.randn(2, n, 48, generator=g).to(dtype) for n in (Tq, Tk, Tk)]
    q, k, v = (x.unflatten(-1, (3, 16)).transpose(1, 2) for x in rows)
    expected = attention_ref(*(x.double() for x in (q, k, v)), Tk - Tq)
    with torch.no_grad():
        assert attention_module._flash_fits(q, k, v)
        partials = list(attend_expanded(q, k, v, Tk - Tq))
        assert len(partials) == (1 if Tq == 1 else 2)
        found = merge_partials(partials)[0]
    assert float((found - expected).abs().max()) <= limit
    first, lse = partials[0]
    seen = Tk - Tq + 1
    out, expected_lse = attend_block(*(x.double() for x in (q, k[:, :, :seen], v[:, :, :seen])), Tk - Tq, 0)
    assert float((first - out).abs().max()) <= limit
    assert float((lse - expected_lse).abs().max()) <= limit
