"""Attention of few queries over many keys in Triton: the keys cut into splits, merged through the log-sum-exp.

Notation: B batch, H heads, Tq queries, Tk keys, D head dim of keys and of values, R = B * Tq rows, S splits.

Queries and keys carry absolute positions as in reference.py; `attend_block` is the twin. Numbers that grow
with an answer are not specialised, or 1 and multiples of 16 would be compiled anew in the middle of it. Strides are, so
that rows are known to be aligned.
"""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from gfkernels.triton_common import channels_together, dot_types

BLOCK_KEYS = 64
# Enough programs for the largest GPUs; constants, so that equal runs give equal bits.
WANTED_PROGRAMS = 1024
MIN_SPLIT = 256
MAX_SPLITS = 128


@triton.jit(do_not_specialize=["Tq", "Tk", "q_start", "k_start", "split", "rows"])
def _split_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, length_ptr, scale, Tq, Tk, q_start, k_start, split, rows, H,
    q_b, q_h, q_t, k_b, k_h, k_t, v_b, v_h, v_t, D: tl.constexpr, HAS_LENGTH: tl.constexpr, DOT: tl.constexpr,
    PRECISION: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """One split of the keys for BM queries of one head. Keys of one batch serve `rows` queries: all of them when the
    document is shared."""
    s = tl.program_id(0)
    h = tl.program_id(1)
    blocks = tl.cdiv(rows, BM)
    group = tl.program_id(2) // blocks
    row = (tl.program_id(2) % blocks) * BM + tl.arange(0, BM)
    if HAS_LENGTH:
        Tk = tl.load(length_ptr).to(tl.int32)
        q_start = k_start + Tk - Tq
    whole = (group * rows + row).to(tl.int64)
    d = tl.arange(0, BD)
    q_at = (whole // Tq) * q_b + h * q_h + (whole % Tq) * q_t
    live = row < rows
    q = tl.load(q_ptr + q_at[:, None] + d[None, :], mask=live[:, None] & (d < D)[None, :], other=0.0)
    q = (q.to(tl.float32) * scale).to(DOT)
    position = q_start + (whole % Tq)
    largest = tl.full((BM,), float("-inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, BD), tl.float32)
    first = s * split
    end = tl.minimum(first + split, Tk)
    k_base = k_ptr + group.to(tl.int64) * k_b + h * k_h
    v_base = v_ptr + group.to(tl.int64) * v_b + h * v_h
    for at in range(first, end, BN):
        n = at + tl.arange(0, BN)
        mask = (n < end)[:, None] & (d < D)[None, :]
        k = tl.load(k_base + n.to(tl.int64)[:, None] * k_t + d[None, :], mask=mask, other=0.0).to(DOT)
        v = tl.load(v_base + n.to(tl.int64)[:, None] * v_t + d[None, :], mask=mask, other=0.0).to(DOT)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        seen = (n < end)[None, :] & ((k_start + n)[None, :] <= position[:, None])
        scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(largest, tl.max(scores, 1))
        shift = tl.where(higher == float("-inf"), 0.0, higher)
        weights = tl.exp(scores - shift[:, None])
        kept = tl.exp(largest - shift)
        total = total * kept + tl.sum(weights, 1)
        acc = acc * kept[:, None]
        acc = tl.dot(weights.to(DOT), v, acc=acc, input_precision=PRECISION)
        largest = higher
    out = acc / tl.where(total > 0, total, 1.0)[:, None]
    lse = tl.where(total > 0, largest + tl.log(tl.where(total > 0, total, 1.0)), float("-inf"))
    at_out = (s.to(tl.int64) * tl.num_programs(2) // blocks * rows + whole) * H + h
    tl.store(out_ptr + at_out[:, None] * D + d[None, :], out, mask=live[:, None] & (d < D)[None, :])
    tl.store(lse_ptr + at_out, lse, mask=live)


@triton.jit(do_not_specialize=["S", "R", "Tq"])
def _merge_kernel(
    part_ptr, lse_ptr, out_ptr, out_lse_ptr, S, R, H, Tq, D: tl.constexpr, BS: tl.constexpr, BD: tl.constexpr
):
    """All splits of one query of one head into one; out is (B, H, Tq, D)."""
    r = tl.program_id(0)
    h = tl.program_id(1)
    s = tl.arange(0, BS)
    d = tl.arange(0, BD)
    at = (s.to(tl.int64) * R + r) * H + h
    lse = tl.load(lse_ptr + at, mask=s < S, other=float("-inf"))
    part = tl.load(part_ptr + at[:, None] * D + d[None, :], mask=(s < S)[:, None] & (d < D)[None, :], other=0.0)
    largest = tl.max(lse, 0)
    shift = tl.where(largest == float("-inf"), 0.0, largest)
    weights = tl.exp(lse - shift)
    total = tl.sum(weights, 0)
    safe = tl.where(total > 0, total, 1.0)
    out = tl.sum(part * weights[:, None], 0) / safe
    place = (r // Tq * H + h) * Tq + r % Tq
    tl.store(out_ptr + place.to(tl.int64) * D + d, out, mask=d < D)
    tl.store(out_lse_ptr + place, tl.where(total > 0, shift + tl.log(safe), float("-inf")))


def attend_split(
    q: Tensor, k: Tensor, v: Tensor, q_start: int, k_start: int = 0, length: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attention over one piece of the keys; contract and twin: `attend_block`.

    Args:
        q: (B, H, Tq, D); k, v: (B or 1, H, Tk, D), views with adjacent channels are taken as they are.
        q_start, k_start: absolute positions of the first query and key.
        length: (1,) integer on the device: only the first `length` keys count, and the queries are the last of
            them (q_start is ignored). For captured graphs, whose shapes are fixed while a sequence grows.

    Returns:
        out (B, H, Tq, D) and lse (B, H, Tq), float32.
    """
    q, k, v = (channels_together(x) for x in (q, k, v))
    B, H, Tq, D = q.shape
    Tk, groups = k.shape[2], k.shape[0]
    rows = B * Tq // groups
    dot, precision = (q.dtype, "ieee") if q.dtype in (torch.bfloat16, torch.float16) else dot_types(q.dtype)
    BM = 16 if rows <= 16 else 32 if rows <= 32 or q.dtype == torch.float32 else 64
    others = H * groups * triton.cdiv(rows, BM)
    wanted = triton.cdiv(Tk, MIN_SPLIT)
    if length is None:  # a captured graph's Tk is room for rows to come: equal splits for any room give equal bits
        wanted = min(wanted, WANTED_PROGRAMS // others)
    splits = max(1, min(MAX_SPLITS, wanted))
    split = triton.cdiv(triton.cdiv(Tk, splits), BLOCK_KEYS) * BLOCK_KEYS
    splits = max(1, triton.cdiv(Tk, split)) if split else 1
    part = torch.empty(splits, B * Tq, H, D, dtype=torch.float32, device=q.device)
    part_lse = torch.empty(splits, B * Tq, H, dtype=torch.float32, device=q.device)
    BD = max(16, triton.next_power_of_2(D))
    _split_kernel[(splits, H, groups * triton.cdiv(rows, BM))](
        q, k, v, part, part_lse, part_lse if length is None else length, 1 / math.sqrt(D), Tq, Tk, q_start, k_start,
        split, rows, H, *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], D=D, HAS_LENGTH=length is not None,
        DOT=_TRITON_TYPES.get(dot, dot), PRECISION=precision, BM=BM, BN=BLOCK_KEYS, BD=BD, num_warps=4,
        **({"num_stages": 2} if BD * q.element_size() > 256 else {}),  # two tiles of keys would not fit
    )  # fmt: skip
    out = torch.empty(B, H, Tq, D, dtype=torch.float32, device=q.device)
    lse = torch.empty(B, H, Tq, dtype=torch.float32, device=q.device)
    _merge_kernel[(B * Tq, H)](
        part, part_lse, out, lse, splits, B * Tq, H, Tq, D=D, BS=triton.next_power_of_2(splits), BD=BD, num_warps=4
    )
    return out, lse


_TRITON_TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
