"""Gradients of WKV6 in Triton: what training on a GPU needs; judged by autograd of `wkv6_recurrent`.

Notation: B batch, T tokens, H heads, K key channels, V value channels, N chunks of 16 tokens.

With S_t the state before token t and G_t the gradient of the loss with respect to S_t,

    G_t = diag(w_t) G_t+1 + r_t dy_t^T                      backwards from the gradient of the final state
    dr_t = S_t dy_t + u k_t <v_t, dy_t>                     dk_t = G_t+1 v_t + u r_t <v_t, dy_t>
    dv_t = G_t+1^T k_t + <r_t, u k_t> dy_t                  du = sum_t r_t k_t <v_t, dy_t>
    dlog_w_t = w_t sum_i S_t[:, i] G_t+1[:, i]              dw_raw_t = dlog_w_t log_w_t

One kernel keeps S at the beginning of every chunk, one G at its end; then all chunks are independent. Inside one, the
products have the middle of the chunk as reference point, as forwards. dlog_w needs no state of every token: with
Q_t = sum_i S_t[:, i] G_t[:, i], Q_t+1 = dlog_w_t + k_t (G_t+1 v_t) and Q_t = dlog_w_t + r_t (S_t dy_t), so it is a sum
from the end of the chunk, where Q is known. That subtracts, and dw_raw multiplies by log_w: fine while log_w is
moderate; chunks with steep decays go token by token and use the definition.
"""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .common_triton import dot_types
from .wkv6_operator import differentiable
from .wkv6_triton import CHUNK, wkv6_triton

# Tighter than forwards: the subtraction above costs digits as log_w grows.
MAX_SUM = tl.constexpr(30.0)


@triton.jit
def _load(ptr, rows, mask, channels):
    return tl.load(ptr + rows[:, None] + channels[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _steep(log_w, BT: tl.constexpr):
    """Whether the middle of the chunk is no safe reference point."""
    t = tl.arange(0, BT)
    first = tl.sum(tl.where((t < BT // 2)[:, None], log_w, 0.0), 0)
    last = tl.sum(tl.where((t >= BT // 2)[:, None], log_w, 0.0), 0)
    return tl.max(tl.maximum(-first, -last), 0) > MAX_SUM


@triton.jit
def _boundary_kernel(
    a_ptr, b_ptr, w_ptr, start_ptr, out_ptr, end_ptr, T, H, K: tl.constexpr, V: tl.constexpr, N,
    BACKWARDS: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr,
    BV: tl.constexpr,
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
        log_w = tl.where(keys, -tl.exp(_load(w_ptr, rows * K, keys, i)), 0.0)
        if _steep(log_w, BT):
            for s in range(0, BT):
                x = s
                if BACKWARDS:
                    x = BT - 1 - s
                row = (t == x)[:, None]
                w_t = tl.exp(tl.sum(tl.where(row, log_w, 0.0), 0))
                added = tl.sum(tl.where(row, a, 0.0), 0)[:, None] * tl.sum(tl.where(row, v, 0.0), 0)[None, :]
                S = S * w_t[:, None] + added
        else:
            after = tl.cumsum(log_w, 0)
            total = tl.sum(log_w, 0)
            factor = tl.exp(after - log_w) if BACKWARDS else tl.exp(total[None, :] - after)
            S = S * tl.exp(total)[:, None]
            S = tl.dot(tl.trans(a * factor).to(DOT), v.to(DOT), acc=S, input_precision=PRECISION)
    tl.store(end_ptr + (b * H + h) * K * V + in_state, S, mask=state_mask)


@triton.jit
def _steep_gradients(
    S_ptr, G_ptr, r_ptr, k_ptr, v_ptr, w_ptr, dy_ptr, dr_ptr, dk_ptr, dv_ptr, dw_ptr, begin, T, H, row_0, base, u,
    K: tl.constexpr, V: tl.constexpr, HAS_U: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """Token by token from the end; S of each token is computed again from the chunk's beginning."""
    i = tl.arange(0, BK)
    j = tl.arange(0, BV)
    in_state = j[None, :] * K + i[:, None]
    state_mask = (i < K)[:, None] & (j < V)[None, :]
    G = tl.load(G_ptr + base + in_state, mask=state_mask, other=0.0)
    du = tl.zeros((BK,), tl.float32)
    end = tl.minimum(begin + BT, T)
    for step in range(0, end - begin):
        x = end - 1 - step
        S = tl.load(S_ptr + base + in_state, mask=state_mask, other=0.0)
        for s in range(begin, x):
            row = row_0 + s * H
            k_s = tl.load(k_ptr + row * K + i, mask=i < K, other=0.0).to(tl.float32)
            v_s = tl.load(v_ptr + row * V + j, mask=j < V, other=0.0).to(tl.float32)
            w_s = tl.exp(-tl.exp(tl.load(w_ptr + row * K + i, mask=i < K, other=0.0).to(tl.float32)))
            S = S * w_s[:, None] + k_s[:, None] * v_s[None, :]
        row = row_0 + x * H
        r = tl.load(r_ptr + row * K + i, mask=i < K, other=0.0).to(tl.float32)
        k = tl.load(k_ptr + row * K + i, mask=i < K, other=0.0).to(tl.float32)
        v = tl.load(v_ptr + row * V + j, mask=j < V, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + row * V + j, mask=j < V, other=0.0).to(tl.float32)
        log_w = -tl.exp(tl.load(w_ptr + row * K + i, mask=i < K, other=0.0).to(tl.float32))
        w = tl.exp(log_w)
        dr = tl.sum(S * dy[None, :], 1)
        dk = tl.sum(G * v[None, :], 1)
        dv = tl.sum(G * k[:, None], 0)
        if HAS_U:
            both = tl.sum(v * dy, 0)
            dr += u * k * both
            dk += u * r * both
            dv += tl.sum(r * u * k, 0) * dy
            du += r * k * both
        # w log_w is 0 where w is: -inf must not meet it.
        dw = tl.where(w > 0, w * log_w, 0.0) * tl.sum(S * G, 1)
        tl.store(dr_ptr + row * K + i, dr.to(dr_ptr.dtype.element_ty), mask=i < K)
        tl.store(dk_ptr + row * K + i, dk.to(dk_ptr.dtype.element_ty), mask=i < K)
        tl.store(dv_ptr + row * V + j, dv.to(dv_ptr.dtype.element_ty), mask=j < V)
        tl.store(dw_ptr + row * K + i, dw.to(dw_ptr.dtype.element_ty), mask=i < K)
        G = G * w[:, None] + r[:, None] * dy[None, :]
    return du


@triton.jit
def _gentle_gradients(
    S_ptr, G_ptr, r_ptr, k_ptr, v_ptr, log_w, dy_ptr, dr_ptr, dk_ptr, dv_ptr, dw_ptr, rows, keys, values, base, u,
    K: tl.constexpr, V: tl.constexpr, HAS_U: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
    BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """The whole chunk in matrix products."""
    t = tl.arange(0, BT)
    i = tl.arange(0, BK)
    j = tl.arange(0, BV)
    in_state = j[None, :] * K + i[:, None]
    state_mask = (i < K)[:, None] & (j < V)[None, :]
    S = tl.load(S_ptr + base + in_state, mask=state_mask, other=0.0)
    G = tl.load(G_ptr + base + in_state, mask=state_mask, other=0.0)
    r = _load(r_ptr, rows * K, keys, i)
    k = _load(k_ptr, rows * K, keys, i)
    v = _load(v_ptr, rows * V, values, j)
    dy = _load(dy_ptr, rows * V, values, j)
    after = tl.cumsum(log_w, 0)
    fwd = after - log_w
    total = tl.sum(log_w, 0)
    middle = tl.sum(tl.where((t < BT // 2)[:, None], log_w, 0.0), 0)
    to_r = tl.exp(fwd - middle[None, :])
    to_k = tl.exp(middle[None, :] - after)
    earlier = t[:, None] > t[None, :]
    weights = tl.dot((r * to_r).to(DOT), tl.trans(k * to_k).to(DOT), input_precision=PRECISION)
    both = tl.dot(dy.to(DOT), tl.trans(v).to(DOT), input_precision=PRECISION)
    weights = tl.where(earlier, weights, 0.0)
    d_weights = tl.where(earlier, both, 0.0)
    dr = to_r * tl.dot(d_weights.to(DOT), (k * to_k).to(DOT), input_precision=PRECISION)
    dr += tl.exp(fwd) * tl.dot(dy.to(DOT), tl.trans(S).to(DOT), input_precision=PRECISION)
    k_end = k * tl.exp(total[None, :] - after)
    dk = to_k * tl.dot(tl.trans(d_weights).to(DOT), (r * to_r).to(DOT), input_precision=PRECISION)
    dk += tl.exp(total[None, :] - after) * tl.dot(v.to(DOT), tl.trans(G).to(DOT), input_precision=PRECISION)
    dv = tl.dot(tl.trans(weights).to(DOT), dy.to(DOT), input_precision=PRECISION)
    dv += tl.dot(k_end.to(DOT), G.to(DOT), input_precision=PRECISION)
    end = S * tl.exp(total)[:, None] + tl.dot(tl.trans(k_end).to(DOT), v.to(DOT), input_precision=PRECISION)
    # dlog_w_t = Q_end + sum over later tokens of (r dr - k dk) - k_t dk_t, without the bonus's part
    r_part = r * dr
    k_part = k * dk
    from_end = tl.sum(r_part, 0)[None, :] - tl.cumsum(r_part, 0) - (tl.sum(k_part, 0)[None, :]
                                                                  - tl.cumsum(k_part, 0) + k_part)  # fmt: skip
    dw = (tl.sum(end * G, 1)[None, :] + from_end) * log_w
    du = tl.zeros((BK,), tl.float32)
    if HAS_U:
        own = tl.sum(tl.where(t[:, None] == t[None, :], both, 0.0), 1)
        dr += u[None, :] * k * own[:, None]
        dk += u[None, :] * r * own[:, None]
        dv += tl.sum(r * u[None, :] * k, 1)[:, None] * dy
        du += tl.sum(r * k * own[:, None], 0)
    tl.store(dr_ptr + rows[:, None] * K + i[None, :], dr.to(dr_ptr.dtype.element_ty), mask=keys)
    tl.store(dk_ptr + rows[:, None] * K + i[None, :], dk.to(dk_ptr.dtype.element_ty), mask=keys)
    tl.store(dv_ptr + rows[:, None] * V + j[None, :], dv.to(dv_ptr.dtype.element_ty), mask=values)
    tl.store(dw_ptr + rows[:, None] * K + i[None, :], dw.to(dw_ptr.dtype.element_ty), mask=keys)
    return du


@triton.jit
def _gradient_kernel(
    S_ptr, G_ptr, r_ptr, k_ptr, v_ptr, w_ptr, u_ptr, dy_ptr, dr_ptr, dk_ptr, dv_ptr, dw_ptr, du_ptr, T, H,
    K: tl.constexpr, V: tl.constexpr, N, HAS_U: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
    BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """All gradients of one chunk of one head, given S before it and G after it."""
    n = tl.program_id(0)
    b = tl.program_id(1).to(tl.int64)
    h = tl.program_id(2)
    t = tl.arange(0, BT)
    i = tl.arange(0, BK)
    j = tl.arange(0, BV)
    at = n * BT + t
    keys = (at < T)[:, None] & (i < K)[None, :]
    values = (at < T)[:, None] & (j < V)[None, :]
    rows = (b * T + at) * H + h
    base = ((b * N + n) * H + h) * K * V
    u = tl.zeros((BK,), tl.float32)
    if HAS_U:
        u += tl.load(u_ptr + h * K + i, mask=i < K, other=0.0)
    log_w = tl.where(keys, -tl.exp(_load(w_ptr, rows * K, keys, i)), 0.0)
    if _steep(log_w, BT):
        du = _steep_gradients(
            S_ptr, G_ptr, r_ptr, k_ptr, v_ptr, w_ptr, dy_ptr, dr_ptr, dk_ptr, dv_ptr, dw_ptr, n * BT, T, H,
            b * T * H + h, base, u, K, V, HAS_U, BT, BK, BV,
        )  # fmt: skip
    else:
        du = _gentle_gradients(
            S_ptr, G_ptr, r_ptr, k_ptr, v_ptr, log_w, dy_ptr, dr_ptr, dk_ptr, dv_ptr, dw_ptr, rows, keys, values, base,
            u, K, V, HAS_U, DOT, PRECISION, BT, BK, BV,
        )  # fmt: skip
    if HAS_U:
        tl.store(du_ptr + ((b * N + n) * H + h) * K + i, du, mask=i < K)


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
            a, b, w_raw, given, out, end, T, H, K, V, N, BACKWARDS=backwards, DOT=dot, PRECISION=precision, BT=CHUNK,
            BK=BK, BV=split, num_warps=4,
        )  # fmt: skip
    dr, dk, dv, dw = (torch.empty_like(x) for x in (r, k, v, w_raw))
    du = torch.empty(B, N, H, K, dtype=torch.float32, device=r.device)
    bonus = start if u is None else u.to(torch.float32).contiguous()
    _gradient_kernel[(N, B, H)](
        S, G, r, k, v, w_raw, bonus, dy, dr, dk, dv, dw, du, T, H, K, V, N, HAS_U=u is not None, DOT=dot,
        PRECISION=precision, BT=CHUNK, BK=BK, BV=BV, num_warps=8,
    )  # fmt: skip
    return (
        dr, dk, dv, dw,
        None if u is None else du.sum((0, 1)).to(u.dtype),
        None if wkv_state is None else d_start.to(wkv_state.dtype),
    )  # fmt: skip


# Called as `wkv6_triton` without its options; gradients for every argument.
wkv6_differentiable = differentiable("wkv6_triton", wkv6_triton, wkv6_gradients)
