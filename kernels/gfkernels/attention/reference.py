"""Softmax attention over a cache that arrives in pieces, merged through the log-sum-exp.

Notation: B batch, H heads, Tq queries, Tk keys, K head dim, V value dim. Queries and keys carry absolute
positions, and a query sees the keys at positions up to and including its own. (Aligning a causal mask to
the top left of a chunk is the classic way to get a continued sequence wrong.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from gfkernels.precision import accumulation_dtype

# Scores of one partial product stay below this many elements (64 MiB in float32).
MAX_SCORE_ELEMENTS = 1 << 24


def comes_after(q: Tensor, keys: int, q_start: int, k_start: int) -> Tensor:
    """(Tq, keys) bool: where a key comes after a query, which may not see it then.

    Args:
        q: queries (B, H, Tq, K), the first at absolute position q_start.
        keys: how many keys, the first at absolute position k_start.
    """
    q_pos = q_start + torch.arange(q.shape[-2], device=q.device)
    k_pos = k_start + torch.arange(keys, device=q.device)
    return k_pos[None, :] > q_pos[:, None]


def attention_ref(q: Tensor, k: Tensor, v: Tensor, q_start: int, k_start: int = 0) -> Tensor:
    """Causal attention written out in full: the judge of the partial form.

    Args:
        q: queries (B, H, Tq, K), the first at absolute position q_start.
        k: keys (B, H, Tk, K), the first at absolute position k_start.
        v: values (B, H, Tk, V).

    Returns:
        (B, H, Tq, V) in the dtype of q.
    """
    acc = accumulation_dtype(q.dtype)
    scores = q.to(acc) @ k.to(acc).transpose(-1, -2) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(comes_after(q, k.shape[-2], q_start, k_start), -torch.inf)
    return (scores.softmax(-1) @ v.to(acc)).to(q.dtype)


def attend_block(q: Tensor, k: Tensor, v: Tensor, q_start: int, k_start: int) -> tuple[Tensor, Tensor]:
    """One piece of the keys: its normalised output and its log-sum-exp.

    Args:
        q, k, v, q_start, k_start: as in `attention_ref`; k and v may have batch 1 for a shared document.

    Returns:
        out (B, H, Tq, V) and lse (B, H, Tq), both in the accumulation dtype; a query that sees none of
        these keys has out 0 and lse -inf.
    """
    acc = accumulation_dtype(q.dtype)
    Tk = k.shape[-2]
    # The product runs in the dtype of the cache (bf16 units are several times faster), sums in `acc`.
    scores = ((q / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2)).to(acc)
    masked = k_start + Tk - 1 > q_start
    if masked:
        scores = scores.masked_fill(comes_after(q, Tk, q_start, k_start), -torch.inf)
    largest = scores.amax(-1, keepdim=True)
    if masked:
        largest = largest.clamp_min(torch.finfo(acc).min)  # a row of -inf must not become NaN
    weights = torch.exp(scores - largest)
    total = weights.sum(-1, keepdim=True)
    out = (weights.to(v.dtype) @ v).to(acc) / total.clamp_min(torch.finfo(acc).tiny)
    lse = (largest + torch.log(total)).squeeze(-1)
    return out, lse


def merge_partials(partials: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Merge (out, lse) of disjoint key pieces into those of their union; keeps two in memory."""
    iterator = iter(partials)
    out, lse = next(iterator)
    for next_out, next_lse in iterator:
        merged = torch.logaddexp(lse, next_lse)
        # Where both are -inf nothing was seen: keep zeros.
        shift = torch.where(torch.isinf(merged), torch.zeros_like(merged), merged)
        out = out * torch.exp(lse - shift)[..., None] + next_out * torch.exp(next_lse - shift)[..., None]
        lse = merged
    return out, lse


def _flash_fits(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether PyTorch's kernel takes these: on the CPU, one dtype and batch, K = V, channels next to each other."""
    alike = q.dtype == k.dtype == v.dtype and q.shape[0] == k.shape[0] and q.shape[-1] == v.shape[-1]
    adjacent = all(x.stride(-1) == 1 for x in (q, k, v))
    return q.device.type == "cpu" and alike and adjacent and not torch.is_grad_enabled()


def attend_all(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One piece of keys without writing the scores out (PyTorch's flash kernel for the CPU).

    Args:
        q (B, H, Tq, K), k (B, H, Tk, K), v (B, H, Tk, V) of one dtype, K = V.
        mask: (Tq, Tk), added to the scores; None when every query sees every key.

    Returns:
        out (B, H, Tq, V) and lse (B, H, Tq), as `attend_block`; twin: attend_block.
    """
    acc = accumulation_dtype(q.dtype)
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, False, attn_mask=mask)
    out, lse = out.to(acc), lse.to(acc)
    if mask is None:
        return out, lse
    blind = torch.isneginf(mask).all(-1)  # queries that see none of these keys: the kernel gives them an lse of 0
    return out.masked_fill(blind[:, None], 0.0), lse.masked_fill(blind, -torch.inf)


def attend_expanded(q: Tensor, k: Tensor, v: Tensor, q_start: int, k_start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Partials over keys that are held whole, cut so that the scores of a piece stay small."""
    rows = max(1, q.shape[0] * q.shape[1] * q.shape[2])
    step = max(256, MAX_SCORE_ELEMENTS // rows)
    last_seen = q_start + q.shape[-2]
    seen_by_all = min(q_start - k_start + 1, k.shape[-2])
    first = 0
    if seen_by_all > 0 and _flash_fits(q, k, v):
        yield attend_all(q, k[:, :, :seen_by_all], v[:, :, :seen_by_all])
        first = seen_by_all
        if k_start + first < last_seen and first < k.shape[-2]:
            end = min(k.shape[-2], last_seen - k_start)
            after = comes_after(q, end - first, q_start, k_start + first)
            mask = q.new_zeros(after.shape).masked_fill_(after, -torch.inf)
            yield attend_all(q, k[:, :, first:end], v[:, :, first:end], mask)
        return
    for start in range(first, k.shape[-2], step):
        if k_start + start >= last_seen:
            return
        end = start + step
        yield attend_block(q, k[:, :, start:end], v[:, :, start:end], q_start, k_start + start)


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Whole-sequence causal attention, queries and keys over the same positions; differentiable.

    Args:
        q, k: (B, H, T, K); v: (B, H, T, V).

    Returns:
        (B, H, T, V) in the dtype of q.
    """
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)
