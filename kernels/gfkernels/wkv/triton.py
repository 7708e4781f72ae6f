"""WKV6 in Triton: chunks made of matrix products, exact for every decay, any number of documents at once.

Notation: N documents, T tokens, H heads, K key channels, V value channels, G segments.

A document is cut into segments that run side by side. One pass finds what each segment adds to a zero state and how
far it decays one; a scan over the segments turns these into the state before each; a second pass computes y from there.
Short documents have one segment and need the second pass only.

Within a segment, 16 tokens at a time are a few matrix products. The weight of token s for token t decays by the sum of
log_w between them, which a product has to split at a reference point into a factor of t and a factor of s:

- the middle of the chunk, where both factors exp(+-x) stay within exp(60): the sums of log_w over either half say so,
  and every decay down to exp(-7.5) a token passes;
- for chunks with steeper ones, the boundaries of halves, quarters, eighths and single tokens (secondary chunking): a
  pair of tokens is split at the one boundary that parts it first, so both factors are at most 1 for every decay. Sums
  are of one sign and never differences of larger sums, which would lose the digits of small ones.
"""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import functools
import itertools

import torch
import triton
import triton.language as tl
from torch import Tensor

from gfkernels.errors import BackendUnavailable, KernelInputError
from gfkernels.triton_common import channels_together, dot_types, obstacle, one_minus_exp

from .inputs import check_wkv6_inputs

CHUNK = 16
LEVELS = tl.constexpr(4)  # halves of a chunk, of these, and so on down to single tokens
MAX_EXPONENT = tl.constexpr(60.0)
# exp(-10,000) is 0 as exp(-inf) is; the sums below multiply by 0 and 1, and 0 * inf is not 0.
LEAST_LOG = tl.constexpr(-1e4)
MAX_HEAD_DIM = 128
# Segments run side by side: enough programs for the largest GPUs, and a constant, so that equal runs give equal bits.
WANTED_PROGRAMS = 1024
MIN_SEGMENT = 256
SCAN_BLOCK = 32


@triton.jit
def _decayed_key(k, log_w, ONE_MINUS_W: tl.constexpr):
    if ONE_MINUS_W:
        k = k * one_minus_exp(log_w)
    return k


@triton.jit
def _tiles(rows, first, end, v_in, K: tl.constexpr, V: tl.constexpr, OUTPUT: tl.constexpr, BT: tl.constexpr,
           BK: tl.constexpr, BV: tl.constexpr):  # fmt: skip
    """r, k, v, w_raw of tokens first .. first + BT - 1 as they are stored, zero from `end` on."""
    r_ptr, k_ptr, v_ptr, w_ptr, _y_ptr, r_t, k_t, v_t, w_t, _y_t = rows
    t = tl.arange(0, BT)[:, None]
    i = tl.arange(0, BK)[None, :]
    j = tl.arange(0, BV)[None, :] + v_in
    keys = (t < end - first) & (i < K)
    k = tl.load(k_ptr + first * k_t + (t * k_t + i), mask=keys, other=0.0)
    v = tl.load(v_ptr + first * v_t + (t * v_t + j), mask=(t < end - first) & (j < V), other=0.0)
    w = tl.load(w_ptr + first * w_t + (t * w_t + i), mask=keys, other=0.0)
    r = k
    if OUTPUT:
        r = tl.load(r_ptr + first * r_t + (t * r_t + i), mask=keys, other=0.0)
    return r, k, v, w


@triton.jit
def _restarting(sum_1, start_1, sum_2, start_2):
    """Two stretches of a sum that begins again at every start."""
    return tl.where(start_2 != 0, sum_2, sum_1 + sum_2), start_1 | start_2


@triton.jit
def _steep_weights(r, k, before, behind, DOT: tl.constexpr, PRECISION: tl.constexpr, BT: tl.constexpr,
                   BK: tl.constexpr):  # fmt: skip
    """The weights of all pairs of a chunk, each split at the boundary that parts it: (BT, BT), 0 from the diagonal on.

    Blocks of 2^n tokens stand in pairs. A token of the later block decays by the sum of log_w back to the boundary, one
    of the earlier block by the sum on to it. before and behind: log_w of the tokens before and behind each.
    """
    t = tl.arange(0, BT)[:, None]
    s = tl.arange(0, BT)[None, :]
    row = t + tl.zeros((BT, BK), tl.int32)
    weights = tl.zeros((BT, BT), tl.float32)
    for n in range(0, LEVELS):
        place = row & ((1 << n) - 1)
        starts = (place == 0).to(tl.int32)
        ends = (place == (1 << n) - 1).to(tl.int32)
        back, _ = tl.associative_scan((tl.where(starts != 0, 0.0, before), starts), 0, _restarting)
        on, _ = tl.associative_scan((tl.where(ends != 0, 0.0, behind), ends), 0, _restarting, reverse=True)
        factor = tl.exp(tl.where(((row >> n) & 1) == 1, back, on))
        found = tl.dot((r * factor).to(DOT), tl.trans(k * factor).to(DOT), input_precision=PRECISION)
        weights += tl.where((((t >> n) & 1) == 1) & ((s >> n) + 1 == (t >> n)), found, 0.0)
    return weights


@triton.jit
def _neighbours(rows, first, end, decay, shift, K: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr):
    """log_w of the tokens `shift` places from those of the chunk; 0 outside of it."""
    w_ptr, w_t = rows[3], rows[8]
    t = tl.arange(0, BT) + shift
    i = tl.arange(0, BK)[None, :]
    inside = ((t >= 0) & (t < BT) & (t < end - first))[:, None] & (i < K)
    w = tl.load(w_ptr + first * w_t + (t[:, None] * w_t + i), mask=inside, other=0.0)
    return tl.where(inside, tl.maximum(-tl.exp(w.to(tl.float32) + decay[None, :]), LEAST_LOG), 0.0)


@triton.jit
def _chunk(S, rows, tiles, first, end, u, decay, v_in, K: tl.constexpr, V: tl.constexpr, OUTPUT: tl.constexpr,
           HAS_U: tl.constexpr, ONE_MINUS_W: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
           BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr):  # fmt: skip
    """Tokens first .. first + BT - 1 (those before `end`): y stored, S (BK, BV) and their sum of log_w returned."""
    r_rows, k_rows, v_rows, w_raw = tiles
    t = tl.arange(0, BT)
    j = tl.arange(0, BV) + v_in
    inside = t < end - first
    log_w = tl.maximum(-tl.exp(w_raw.to(tl.float32) + decay[None, :]), LEAST_LOG)
    log_w = tl.where(inside[:, None], log_w, 0.0)
    r = r_rows.to(tl.float32)
    k = _decayed_key(k_rows.to(tl.float32), log_w, ONE_MINUS_W)
    v = v_rows.to(DOT)
    total = tl.sum(log_w, 0)
    middle = tl.sum(tl.where((t < BT // 2)[:, None], log_w, 0.0), 0)
    last = tl.sum(tl.where((t >= BT // 2)[:, None], log_w, 0.0), 0)
    weights = tl.zeros((BT, BT), tl.float32)
    if tl.max(tl.maximum(-middle, -last), 0) <= MAX_EXPONENT:
        after = tl.cumsum(log_w, 0)
        fwd = after - log_w
        later = total[None, :] - after
        if OUTPUT:
            r_middle = (r * tl.exp(fwd - middle[None, :])).to(DOT)
            k_middle = (k * tl.exp(middle[None, :] - after)).to(DOT)
            weights = tl.dot(r_middle, tl.trans(k_middle), input_precision=PRECISION)
            # The upper triangle may overflow: it is replaced, never multiplied.
            weights = tl.where(t[:, None] > t[None, :], weights, 0.0)
    else:
        behind = _neighbours(rows, first, end, decay, 1, K, BT, BK)
        before = _neighbours(rows, first, end, decay, -1, K, BT, BK)
        later = tl.cumsum(behind, 0, reverse=True)
        fwd = tl.cumsum(before, 0)
        if OUTPUT:
            weights = _steep_weights(r, k, before, behind, DOT, PRECISION, BT, BK)
    if OUTPUT:
        y_ptr, y_t = rows[4], rows[9]
        if HAS_U:
            bonus = tl.sum(r * u[None, :] * k, 1)
            weights = tl.where(t[:, None] == t[None, :], bonus[:, None], weights)
        y = tl.dot(weights.to(DOT), v, input_precision=PRECISION)
        y = tl.dot((r * tl.exp(fwd)).to(DOT), S.to(DOT), acc=y, input_precision=PRECISION)
        tl.store(y_ptr + first * y_t + (t[:, None] * y_t + j[None, :]), y.to(y_ptr.dtype.element_ty),
                 mask=inside[:, None] & (j < V)[None, :])  # fmt: skip
    S = S * tl.exp(total)[:, None]
    S = tl.dot(tl.trans(k * tl.exp(later)).to(DOT), v, acc=S, input_precision=PRECISION)
    return S, total


@triton.jit(do_not_specialize=["T"])
def _segment_kernel(
    r_ptr, k_ptr, v_ptr, w_ptr, decay_ptr, u_ptr, state_in_ptr, y_ptr, state_out_ptr, decayed_ptr, segments_ptr,
    T, H, K: tl.constexpr, V: tl.constexpr, r_b, r_t, r_h, k_b, k_t, k_h, v_b, v_t, v_h, w_b, w_t, w_h,
    OUTPUT: tl.constexpr, HAS_STATE: tl.constexpr, HAS_U: tl.constexpr, HAS_DECAY: tl.constexpr,
    ONE_MINUS_W: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr, BT: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """One segment of one head. With OUTPUT: y, and the final state where the segment is its document's last.
    Without: what the segment adds to a zero state, and its sum of log_w."""
    g = tl.program_id(0)
    h = tl.program_id(1)
    v_in = tl.program_id(2) * BV
    batch = tl.load(segments_ptr + g * 5)
    first = tl.load(segments_ptr + g * 5 + 1)
    end = tl.load(segments_ptr + g * 5 + 2)
    document = tl.load(segments_ptr + g * 5 + 3)
    is_last = tl.load(segments_ptr + g * 5 + 4)
    i = tl.arange(0, BK)
    j = tl.arange(0, BV) + v_in
    decay = tl.zeros((BK,), tl.float32)
    if HAS_DECAY:
        decay += tl.load(decay_ptr + h * K + i, mask=i < K, other=0.0)
    u = tl.zeros((BK,), tl.float32)
    if HAS_U:
        u += tl.load(u_ptr + h * K + i, mask=i < K, other=0.0)
    state_mask = (i < K)[:, None] & (j < V)[None, :]
    in_state = j[None, :] * K + i[:, None]
    S = tl.zeros((BK, BV), tl.float32)
    if HAS_STATE:
        S += tl.load(state_in_ptr + (g.to(tl.int64) * H + h) * K * V + in_state, mask=state_mask, other=0.0)
    y_t = H * V
    rows = (
        r_ptr + batch * r_b + h * r_h, k_ptr + batch * k_b + h * k_h, v_ptr + batch * v_b + h * v_h,
        w_ptr + batch * w_b + h * w_h, y_ptr + batch * T * y_t + h * V,
        r_t, k_t, v_t, w_t, y_t,
    )  # fmt: skip
    decayed = tl.zeros((BK,), tl.float32)
    tiles = _tiles(rows, first, end, v_in, K, V, OUTPUT, BT, BK, BV)
    for at in range(first, end, BT):
        # The next chunk is on its way while this one is computed.
        following = _tiles(rows, at + BT, end, v_in, K, V, OUTPUT, BT, BK, BV)
        S, total = _chunk(S, rows, tiles, at, end, u, decay, v_in, K, V, OUTPUT, HAS_U, ONE_MINUS_W, DOT, PRECISION,
                          BT, BK, BV)  # fmt: skip
        decayed += total
        tiles = following
    if OUTPUT:
        if is_last != 0:
            at_state = (document * H + h) * K * V
            tl.store(state_out_ptr + at_state + in_state, S, mask=state_mask)
    else:
        tl.store(state_out_ptr + (g.to(tl.int64) * H + h) * K * V + in_state, S, mask=state_mask)
        tl.store(decayed_ptr + (g * H + h) * K + i, decayed, mask=i < K)


@triton.jit
def _in_order(kept_1, added_1, kept_2, added_2):
    """Two stretches of tokens as one: each maps a state S to kept * S + added."""
    return kept_1 * kept_2, added_1 * kept_2 + added_2


@triton.jit
def _scan_kernel(
    added_ptr, decayed_ptr, state_in_ptr, states_ptr, first_ptr, H, K: tl.constexpr, V: tl.constexpr,
    HAS_STATE: tl.constexpr, SB: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """The state before every segment of one document, one value channel of one head."""
    n = tl.program_id(0)
    h = tl.program_id(1)
    value = tl.program_id(2)
    i = tl.arange(0, BK)
    begin = tl.load(first_ptr + n)
    end = tl.load(first_ptr + n + 1)
    S = tl.zeros((BK,), tl.float32)
    if HAS_STATE:
        S += tl.load(state_in_ptr + ((n * H + h).to(tl.int64) * V + value) * K + i, mask=i < K, other=0.0)
    # An empty document has no segment: the place of its first belongs to the next document, or to nobody.
    if begin < end:
        tl.store(states_ptr + ((begin * H + h) * V + value) * K + i, S, mask=i < K)
    s = tl.arange(0, SB)
    for g in range(begin, end, SB):
        at = g + s
        mask = (at < end)[:, None] & (i < K)[None, :]
        kept = tl.exp(tl.load(decayed_ptr + (at * H + h)[:, None] * K + i[None, :], mask=mask, other=0.0))
        added = tl.load(added_ptr + ((at * H + h) * V + value)[:, None] * K + i[None, :], mask=mask, other=0.0)
        kept, added = tl.associative_scan((kept, added), 0, _in_order)
        after = kept * S[None, :] + added
        mask = (at + 1 < end)[:, None] & (i < K)[None, :]
        tl.store(states_ptr + (((at + 1) * H + h) * V + value)[:, None] * K + i[None, :], after, mask=mask)
        S = tl.sum(tl.where((s == SB - 1)[:, None], after, 0.0), 0)


@triton.jit
def _step_kernel(
    r_ptr, k_ptr, v_ptr, w_ptr, decay_ptr, u_ptr, state_in_ptr, y_ptr, state_out_ptr,
    H, K: tl.constexpr, V: tl.constexpr, r_b, r_h, k_b, k_h, v_b, v_h, w_b, w_h,
    HAS_U: tl.constexpr, HAS_DECAY: tl.constexpr, ONE_MINUS_W: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """One token of one head; state_out may be state_in."""
    b = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1)
    v_in = tl.program_id(2) * BV
    i = tl.arange(0, BK)
    j = tl.arange(0, BV) + v_in
    decay = tl.zeros((BK,), tl.float32)
    if HAS_DECAY:
        decay += tl.load(decay_ptr + h * K + i, mask=i < K, other=0.0)
    u = tl.zeros((BK,), tl.float32)
    if HAS_U:
        u += tl.load(u_ptr + h * K + i, mask=i < K, other=0.0)
    mask = (i < K)[:, None] & (j < V)[None, :]
    in_state = (b * H + h) * K * V + j[None, :] * K + i[:, None]
    S = tl.load(state_in_ptr + in_state, mask=mask, other=0.0)
    r = tl.load(r_ptr + b * r_b + h * r_h + i, mask=i < K, other=0.0).to(tl.float32)
    k = tl.load(k_ptr + b * k_b + h * k_h + i, mask=i < K, other=0.0).to(tl.float32)
    v = tl.load(v_ptr + b * v_b + h * v_h + j, mask=j < V, other=0.0).to(tl.float32)
    w_raw = tl.load(w_ptr + b * w_b + h * w_h + i, mask=i < K, other=0.0).to(tl.float32) + decay
    log_w = -tl.exp(w_raw)
    k = _decayed_key(k, log_w, ONE_MINUS_W)
    y = tl.sum(S * r[:, None], 0)
    if HAS_U:
        y += tl.sum(r * u * k, 0) * v
    tl.store(y_ptr + (b * H + h) * V + j, y.to(y_ptr.dtype.element_ty), mask=j < V)
    S = S * tl.exp(log_w)[:, None] + k[:, None] * v[None, :]
    tl.store(state_out_ptr + in_state, S, mask=mask)


def wkv6_triton(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    w_raw: Tensor,
    u: Tensor | None = None,
    wkv_state: Tensor | None = None,
    *,
    cu_seqlens: Tensor | None = None,
    decay: Tensor | None = None,
    one_minus_w: bool = False,
    segment: int | None = None,
) -> tuple[Tensor, Tensor]:
    """WKV6 over sequences of any length; twin: `wkv6_recurrent`. No gradients (see triton_backward.py).

    Args:
        r, k, v, w_raw, u: as in `wkv6_recurrent`, in float32, bfloat16 or float16; K and V at most 128.
        wkv_state: (B, H, V, K) before the first token, or None for zero; (N, H, V, K) with cu_seqlens.
        cu_seqlens: (N + 1,) int64, where each of N documents packed in one row (B = 1) begins, and T. Its values are
            read on the host: give a CPU tensor to avoid a wait for the device.
        decay: (H, K) float32, added to w_raw: the static part of the decay.
        one_minus_w: multiply k by 1 - w first (Finch-C2).
        segment: tokens of the stretches that run side by side, a multiple of CHUNK; chosen from the sizes by default.

    Returns:
        y (B, T, H, V) in the dtype of r; state after the last token (of each document) in float32.

    Raises:
        KernelInputError: shapes that do not belong together.
        BackendUnavailable: no GPU and no interpreter, or a dtype without kernels.
    """
    _check(r, k, v, w_raw, u, wkv_state, cu_seqlens)
    B, T, H, K = r.shape
    V = v.shape[-1]
    lengths = (T,) * B if cu_seqlens is None else tuple(torch.diff(cu_seqlens.cpu()).tolist())
    segment = segment or _segment_tokens(B * T, H)
    segments, first, most, single = segment_plan(lengths, cu_seqlens is not None, segment, r.device)
    state = None if wkv_state is None else wkv_state.to(torch.float32).contiguous()
    y = torch.empty(B, T, H, V, dtype=r.dtype, device=r.device)
    end = torch.empty(len(lengths), H, V, K, dtype=torch.float32, device=r.device)
    if T == 0:
        return y, end.zero_() if state is None else end.copy_(state)
    if 0 in lengths:  # a document without tokens keeps its state: no segment writes it
        end.zero_() if state is None else end.copy_(state)
    run = functools.partial(_run_segments, r, k, v, w_raw, u, decay, one_minus_w, segments)
    if not single:
        added = torch.empty(len(segments), H, V, K, dtype=torch.float32, device=r.device)
        decayed = torch.empty(len(segments), H, K, dtype=torch.float32, device=r.device)
        run(None, None, added, decayed)
        before = torch.empty_like(added)
        _scan_kernel[(len(lengths), H, V)](
            added, decayed, added if state is None else state, before, first, H, K, V,
            HAS_STATE=state is not None, SB=min(SCAN_BLOCK, triton.next_power_of_2(most)),
            BK=triton.next_power_of_2(K), num_warps=2,
        )  # fmt: skip
        state = before
    run(state, y, end, None)
    return y, end


def _run_segments(
    r: Tensor, k: Tensor, v: Tensor, w_raw: Tensor, u: Tensor | None, decay: Tensor | None, one_minus_w: bool,
    segments: Tensor, state: Tensor | None, y: Tensor | None, out: Tensor, decayed: Tensor | None,
) -> None:  # fmt: skip
    r, k, v, w_raw = (channels_together(x) for x in (r, k, v, w_raw))
    _, T, H, K = r.shape
    V = v.shape[-1]
    dot, precision = dot_types(r.dtype)
    widest = 32 if r.dtype == torch.float32 else 64  # what fits the registers of every target
    BK, BV = max(16, triton.next_power_of_2(K)), min(widest, max(16, triton.next_power_of_2(V)))
    _segment_kernel[(len(segments), H, triton.cdiv(V, BV))](
        r, k, v, w_raw, _float32(decay, out), _float32(u, out), out if state is None else state, r if y is None else y,
        out, out if decayed is None else decayed, segments, T, H, K, V, *r.stride()[:3], *k.stride()[:3],
        *v.stride()[:3], *w_raw.stride()[:3], OUTPUT=y is not None, HAS_STATE=state is not None, HAS_U=u is not None,
        HAS_DECAY=decay is not None, ONE_MINUS_W=one_minus_w, DOT=dot, PRECISION=precision, BT=CHUNK, BK=BK, BV=BV,
        num_warps=8 if r.dtype == torch.float32 else 4,
    )  # fmt: skip


def wkv6_step_triton(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    w_raw: Tensor,
    u: Tensor | None,
    wkv_state: Tensor,
    *,
    decay: Tensor | None = None,
    one_minus_w: bool = False,
    out_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """WKV6 for one token; twin: `wkv6_step`.

    Args:
        r, k, w_raw (B, 1, H, K), v (B, 1, H, V), u, wkv_state, decay, one_minus_w: as in `wkv6_triton`.
        out_state: where to put the next state, (B, H, V, K) float32 contiguous; may be wkv_state itself, as a
            captured graph wants it. A new tensor by default.

    Returns:
        y (B, 1, H, V) in the dtype of r, and the next state.
    """
    _check(r, k, v, w_raw, u, wkv_state, None)
    r, k, v, w_raw = (channels_together(x) for x in (r, k, v, w_raw))
    B, _, H, K = r.shape
    V = v.shape[-1]
    state = wkv_state.to(torch.float32).contiguous()
    end = torch.empty_like(state) if out_state is None else out_state
    y = torch.empty(B, 1, H, V, dtype=r.dtype, device=r.device)
    BV = min(16, triton.next_power_of_2(V))
    _step_kernel[(B, H, triton.cdiv(V, BV))](
        r, k, v, w_raw, _float32(decay, state), _float32(u, state), state, y, end, H, K, V,
        *(s for x in (r, k, v, w_raw) for s in (x.stride(0), x.stride(2))),
        HAS_U=u is not None, HAS_DECAY=decay is not None, ONE_MINUS_W=one_minus_w, BK=triton.next_power_of_2(K), BV=BV,
        num_warps=1,
    )  # fmt: skip
    return y, end


def _float32(vectors: Tensor | None, anything: Tensor) -> Tensor:
    """A pointer that a kernel may be given: `anything` where there is nothing to read."""
    return anything if vectors is None else vectors.to(torch.float32).contiguous()


def _check(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    w_raw: Tensor,
    u: Tensor | None,
    wkv_state: Tensor | None,
    cu_seqlens: Tensor | None,
) -> None:
    op = "wkv6_triton"
    check_wkv6_inputs(op, r, k, v, w_raw, u, None if cu_seqlens is not None else wkv_state)
    reason = obstacle(r, k, v, w_raw)
    if reason:
        raise BackendUnavailable(op, "triton", reason, ("torch", "reference"))
    if max(r.shape[-1], v.shape[-1]) > MAX_HEAD_DIM:
        raise KernelInputError(op, f"K {r.shape[-1]}, V {v.shape[-1]}", f"at most {MAX_HEAD_DIM}")
    if cu_seqlens is None:
        return
    bounds = cu_seqlens.tolist()
    if r.shape[0] != 1 or bounds[:1] != [0] or bounds[-1] != r.shape[1] or sorted(bounds) != bounds:
        raise KernelInputError(op, f"B {r.shape[0]}, cu_seqlens {bounds}", f"B 1, ascending from 0 to {r.shape[1]}")
    expected = (len(bounds) - 1, r.shape[2], v.shape[-1], r.shape[3])
    if wkv_state is not None and tuple(wkv_state.shape) != expected:
        raise KernelInputError(op, f"wkv_state of shape {tuple(wkv_state.shape)}", f"{expected}")


def _segment_tokens(tokens: int, heads: int) -> int:
    wanted = tokens * heads / WANTED_PROGRAMS
    return max(MIN_SEGMENT, int(-(-wanted // CHUNK)) * CHUNK)


@functools.lru_cache(maxsize=64)
def segment_plan(
    lengths: tuple[int, ...], packed: bool, segment: int, device: torch.device
) -> tuple[Tensor, Tensor, int, bool]:  # fmt: skip
    """Rows (batch, first, end, document, is last) of the segments; where the segments of each document begin; the most
    segments of one; whether every document is one. (G, 5) and (N + 1,) int64."""
    rows: list[list[int]] = []
    first, start = [0], 0
    for n, length in enumerate(lengths):
        for at in range(0, length, segment):
            end = min(at + segment, length)
            rows.append([0 if packed else n, start + at, start + end, n, int(end == length)])
        first.append(len(rows))
        start += length if packed else 0
    single = len(rows) == len(lengths) and 0 not in lengths
    table = torch.tensor(rows, dtype=torch.int64).reshape(-1, 5)
    most = max((b - a for a, b in itertools.pairwise(first)), default=0)
    return table.to(device), torch.tensor(first, dtype=torch.int64, device=device), most, single
