"""Gradients of WKV6 in Triton: what training on a GPU needs; judged by autograd of `wkv6_recurrent`.

Notation: B batch, T tokens, H heads, K key channels, V value channels, N chunks of 16 tokens.

With S_t the state before token t and G_t the gradient of the loss with respect to S_t,

    G_t = diag(w_t) G_t+1 + r_t dy_t^T                      backwards from the gradient of the final state
    dr_t = S_t dy_t + u k_t <v_t, dy_t>                     dk_t = G_t+1 v_t + u r_t <v_t, dy_t>
    dv_t = G_t+1^T k_t + <r_t, u k_t> dy_t                  du = sum_t r_t k_t <v_t, dy_t>
    dlog_w_t = w_t sum_i S_t[:, i] G_t+1[:, i]              dw_raw_t = dlog_w_t log_w_t

One kernel keeps S at the beginning of every chunk, one G at its end; then all chunks are independent. Inside one, each
pair of tokens is split at the boundary that parts it first, as forwards in chunks with steep decays (`wkv6_triton`):
all factors are exp of a sum of log_w over some tokens, at most 1. Where a factor of token t is a sum over the tokens
that a mask names, what flows back into log_w goes through the transposed mask. All of it holds the factor w_t, so
dw_raw = dlog_w log_w is exact for every decay, and nothing is subtracted.
"""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gfkernels.triton_common import dot_types, sum_precision

from .operator import differentiable
from .triton import CHUNK, LEAST_LOG, LEVELS, wkv6_triton


@triton.jit
def _load(ptr, rows, mask, channels):
    return tl.load(ptr + rows[:, None] + channels[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _log_w(w_raw, inside):
    return tl.where(inside, tl.maximum(-tl.exp(w_raw), LEAST_LOG), 0.0)


@triton.jit
def _between(log_w, where, SUMS: tl.constexpr):
    """Sums of log_w (BT, BK) over the tokens that each row of `where` (BT, BT) names."""
    return tl.dot(where.to(tl.float32), log_w, input_precision=SUMS)


@triton.jit
def _to_boundary(t, s, n):
    """Blocks of 2^n tokens, in pairs: which tokens s lie between token t and the boundary inside its pair, and whether
    t and s are in the later and the earlier block of one pair; both (BT, BT)."""
    later = ((t >> n) & 1) == 1
    near = ((t >> n) == (s >> n)) & ((later & (s < t)) | ((later == 0) & (s > t)))
    return near, later & ((s >> n) + 1 == (t >> n))


@triton.jit(do_not_specialize=["T", "N"])
def _boundary_kernel(
    a_ptr, b_ptr, w_ptr, start_ptr, out_ptr, end_ptr, T, H, K: tl.constexpr, V: tl.constexpr, N,
    BACKWARDS: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr, SUMS: tl.constexpr, BT: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """Forwards (a = k, b = v): S before every chunk. Backwards (a = r, b = dy): G after every chunk."""
    b = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1)
    t = tl.arange(0, BT)
    i = tl.arange(0, BK)
    j = tl.arange(0, BV) + tl.program_id(2) * BV
    in_state = j[None, :] * K + i[:, None]
    state_mask = (i < K)[:, None] & (j < V)[None, :]
    S = tl.load(start_ptr + (b * H + h) * K * V + in_state, mask=state_mask, other=0.0)
    for step in range(0, N):
        n = step
        if BACKWARDS:
            n = N - 1 - step
        tl.store(out_ptr + ((b * N + n) * H + h) * K * V + in_state, S, mask=state_mask)
        at = n * BT + t
        keys = (at < T)[:, None] & (i < K)[None, :]
        rows = (b * T + at) * H + h
        a = _load(a_ptr, rows * K, keys, i)
        v = _load(b_ptr, rows * V, (at < T)[:, None] & (j < V)[None, :], j)
        log_w = _log_w(_load(w_ptr, rows * K, keys, i), keys)
        # Decayed by what comes after a token on the way forwards, by what comes before it on the way back.
        factor = tl.exp(_between(log_w, (t[:, None] > t[None, :]) if BACKWARDS else (t[:, None] < t[None, :]), SUMS))
        S = S * tl.exp(tl.sum(log_w, 0))[:, None]
        S = tl.dot(tl.trans(a * factor).to(DOT), v.to(DOT), acc=S, input_precision=PRECISION)
    tl.store(end_ptr + (b * H + h) * K * V + in_state, S, mask=state_mask)


@triton.jit(do_not_specialize=["T", "N"])
def _gradient_kernel(
    S_ptr, G_ptr, r_ptr, k_ptr, v_ptr, w_ptr, u_ptr, dy_ptr, dr_ptr, dk_ptr, dv_ptr, dw_ptr, du_ptr, T, H,
    K: tl.constexpr, V: tl.constexpr, N, HAS_U: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
    SUMS: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """All gradients of one chunk of one head, given S before it and G after it."""
    n_chunk = tl.program_id(0)
    b = tl.program_id(1).to(tl.int64)
    h = tl.program_id(2)
    t = tl.arange(0, BT)
    i = tl.arange(0, BK)
    j = tl.arange(0, BV)
    at = n_chunk * BT + t
    keys = (at < T)[:, None] & (i < K)[None, :]
    values = (at < T)[:, None] & (j < V)[None, :]
    rows = (b * T + at) * H + h
    base = ((b * N + n_chunk) * H + h) * K * V
    u = tl.zeros((BK,), tl.float32)
    if HAS_U:
        u += tl.load(u_ptr + h * K + i, mask=i < K, other=0.0)
    in_state = j[None, :] * K + i[:, None]
    state_mask = (i < K)[:, None] & (j < V)[None, :]
    S = tl.load(S_ptr + base + in_state, mask=state_mask, other=0.0)
    G = tl.load(G_ptr + base + in_state, mask=state_mask, other=0.0)
    log_w = _log_w(_load(w_ptr, rows * K, keys, i), keys)
    r = _load(r_ptr, rows * K, keys, i)
    k = _load(k_ptr, rows * K, keys, i)
    v = _load(v_ptr, rows * V, values, j)
    dy = _load(dy_ptr, rows * V, values, j)
    # Through the states at the two ends.
    x, y = t[:, None], t[None, :]
    from_start = tl.exp(_between(log_w, x > y, SUMS))
    to_end = tl.exp(_between(log_w, x < y, SUMS))
    dr = from_start * tl.dot(dy.to(DOT), tl.trans(S).to(DOT), input_precision=PRECISION)
    dk = to_end * tl.dot(v.to(DOT), tl.trans(G).to(DOT), input_precision=PRECISION)
    dv = tl.dot((k * to_end).to(DOT), G.to(DOT), input_precision=PRECISION)
    dlog_w = (tl.exp(tl.sum(log_w, 0)) * tl.sum(S * G, 1))[None, :]
    dlog_w += _between(r * dr, x < y, SUMS) + _between(k * dk, x > y, SUMS)
    # From token to token.
    both = tl.dot(dy.to(DOT), tl.trans(v).to(DOT), input_precision=PRECISION)
    weights = tl.zeros((BT, BT), tl.float32)
    for n in range(0, LEVELS):
        near, pair = _to_boundary(x, y, n)
        factor = tl.exp(_between(log_w, near, SUMS))
        r_near, k_near = (r * factor).to(DOT), (k * factor).to(DOT)
        weights += tl.where(pair, tl.dot(r_near, tl.trans(k_near), input_precision=PRECISION), 0.0)
        d_weights = tl.where(pair, both, 0.0).to(DOT)
        dr_near = factor * tl.dot(d_weights, k_near, input_precision=PRECISION)
        dk_near = factor * tl.dot(tl.trans(d_weights), r_near, input_precision=PRECISION)
        dlog_w += _between(r * dr_near + k * dk_near, _to_boundary(y, x, n)[0], SUMS)
        dr += dr_near
        dk += dk_near
    dv += tl.dot(tl.trans(weights).to(DOT), dy.to(DOT), input_precision=PRECISION)
    dw = dlog_w * log_w
    if HAS_U:
        own = tl.sum(tl.where(x == y, both, 0.0), 1)
        dr += u[None, :] * k * own[:, None]
        dk += u[None, :] * r * own[:, None]
        dv += tl.sum(r * u[None, :] * k, 1)[:, None] * dy
        tl.store(du_ptr + ((b * N + n_chunk) * H + h) * K + i, tl.sum(r * k * own[:, None], 0), mask=i < K)
    tl.store(dr_ptr + rows[:, None] * K + i[None, :], dr.to(dr_ptr.dtype.element_ty), mask=keys)
    tl.store(dk_ptr + rows[:, None] * K + i[None, :], dk.to(dk_ptr.dtype.element_ty), mask=keys)
    tl.store(dv_ptr + rows[:, None] * V + j[None, :], dv.to(dv_ptr.dtype.element_ty), mask=values)
    tl.store(dw_ptr + rows[:, None] * K + i[None, :], dw.to(dw_ptr.dtype.element_ty), mask=keys)


def wkv6_gradients(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    w_raw: Tensor,
    u: Tensor | None,
    wkv_state: Tensor | None,
    dy: Tensor,
    d_end: Tensor,
) -> tuple[Tensor | None, ...]:
    """Gradients of r, k, v, w_raw, u and wkv_state, each in its dtype.

    Args:
        r, k, v, w_raw, u, wkv_state: as given to `wkv6_triton`.
        dy: (B, T, H, V), the gradient of y; d_end: (B, H, V, K), that of the final state.
    """
    r, k, v, w_raw, dy = (x.contiguous() for x in (r, k, v, w_raw, dy))
    B, T, H, K = r.shape
    V = v.shape[-1]
    N = triton.cdiv(T, CHUNK)
    BK, BV = max(16, triton.next_power_of_2(K)), max(16, triton.next_power_of_2(V))
    dot, precision = dot_types(r.dtype)
    start = r.new_zeros(B, H, V, K, dtype=torch.float32)
    if wkv_state is not None:
        start = wkv_state.to(torch.float32).contiguous()
    S, G = (torch.empty(B, N, H, V, K, dtype=torch.float32, device=r.device) for _ in range(2))
    d_start = torch.empty_like(start)
    d_end = d_end.to(torch.float32).contiguous()
    split = min(32, BV)
    for a, b, given, out, end, backwards in ((k, v, start, S, d_start, False), (r, dy, d_end, G, d_start, True)):
        _boundary_kernel[(B, H, triton.cdiv(V, split))](
            a, b, w_raw, given, out, end, T, H, K, V, N, BACKWARDS=backwards, DOT=dot, PRECISION=precision,
            SUMS=sum_precision(), BT=CHUNK, BK=BK, BV=split, num_warps=4,
        )  # fmt: skip
    dr, dk, dv, dw = (torch.empty_like(x) for x in (r, k, v, w_raw))
    du = torch.empty(B, N, H, K, dtype=torch.float32, device=r.device)
    bonus = start if u is None else u.to(torch.float32).contiguous()
    _gradient_kernel[(N, B, H)](
        S, G, r, k, v, w_raw, bonus, dy, dr, dk, dv, dw, du, T, H, K, V, N, HAS_U=u is not None, DOT=dot,
        PRECISION=precision, SUMS=sum_precision(), BT=CHUNK, BK=BK, BV=BV,
        num_warps=4 if torch.version.hip is not None else 8,  # of 64 threads, or of 32
    )  # fmt: skip
    return (
        dr, dk, dv, dw,
        None if u is None else du.sum((0, 1)).to(u.dtype),
        None if wkv_state is None else d_start.to(wkv_state.dtype),
    )  # fmt: skip


# Called as `wkv6_triton` without its options; gradients for every argument.
wkv6_differentiable = differentiable("wkv6_triton", wkv6_triton, wkv6_gradients)
