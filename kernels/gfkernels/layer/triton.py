"""The memory-bound rest of a recurrent layer in Triton: everything between its matrix products, each in one pass.

Notation: T rows (tokens), C channels, G mix groups. Rows are float32, bfloat16 or float16 and contiguous; parameter
vectors are float32; arithmetic is float32. No gradients.

Rows may be several documents behind each other. `starts` then says which rows are a document's first: (T,) int32, its
number there and -1 elsewhere; `before` has the row before each. Without `starts` all rows are one document.
"""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gfkernels.triton_common import dot_types, sigmoid, tanh_of

# Rows of one program in the shift kernels.
BLOCK_ROWS = 32


@triton.jit
def _row_and_shift(h_ptr, before_ptr, starts_ptr, t, c, T, C, HAS_BEFORE: tl.constexpr, PACKED: tl.constexpr):
    """Rows t of h and their token shift, (rows, channels) float32."""
    document = tl.zeros_like(t)
    is_first = t == 0
    if PACKED:
        document = tl.load(starts_ptr + t, mask=t < T, other=-1)
        is_first = document >= 0
    mask = (t < T)[:, None] & (c < C)[None, :]
    at = t.to(tl.int64)[:, None] * C + c[None, :]
    h = tl.load(h_ptr + at, mask=mask, other=0.0).to(tl.float32)
    previous = tl.load(h_ptr + at - C, mask=mask & (t > 0)[:, None], other=0.0).to(tl.float32)
    previous = tl.where(is_first[:, None], 0.0, previous)
    if HAS_BEFORE:
        first = tl.load(before_ptr + document[:, None] * C + c[None, :], mask=mask & is_first[:, None], other=0.0)
        previous += first.to(tl.float32)
    return h, previous - h


@triton.jit(do_not_specialize=["T"])
def _lerp_kernel(
    h_ptr, before_ptr, starts_ptr, mix_ptr, out_ptr, T, C, G: tl.constexpr, HAS_BEFORE: tl.constexpr,
    PACKED: tl.constexpr, BT: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0) * BT + tl.arange(0, BT)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    h, shift = _row_and_shift(h_ptr, before_ptr, starts_ptr, t, c, T, C, HAS_BEFORE, PACKED)
    mask = (t < T)[:, None] & (c < C)[None, :]
    for g in tl.static_range(G):
        mix = tl.load(mix_ptr + g * C + c, mask=c < C, other=0.0)
        at = (t.to(tl.int64) + g * T)[:, None] * C + c[None, :]
        tl.store(out_ptr + at, (h + shift * mix[None, :]).to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["T"])
def _ddlerp_kernel(
    h_ptr, before_ptr, starts_ptr, mix_ptr, z_ptr, w2_ptr, out_ptr, T, C, G: tl.constexpr, RANK: tl.constexpr,
    HAS_BEFORE: tl.constexpr, PACKED: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr, BT: tl.constexpr,
    BC: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0) * BT + tl.arange(0, BT)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    i = tl.arange(0, RANK)
    h, shift = _row_and_shift(h_ptr, before_ptr, starts_ptr, t, c, T, C, HAS_BEFORE, PACKED)
    mask = (t < T)[:, None] & (c < C)[None, :]
    rows = t.to(tl.int64)
    for g in tl.static_range(G):
        z = tl.load(z_ptr + rows[:, None] * (G * RANK) + g * RANK + i[None, :], mask=(t < T)[:, None], other=0.0)
        w2 = tl.load(w2_ptr + (g * RANK + i)[:, None] * C + c[None, :], mask=(c < C)[None, :], other=0.0)
        z = tanh_of(z.to(tl.float32)).to(DOT)
        dynamic = tl.dot(z, w2.to(DOT), input_precision=PRECISION)
        mix = tl.load(mix_ptr + g * C + c, mask=c < C, other=0.0)
        mixed = h + shift * (mix[None, :] + dynamic)
        at = (rows + g * T)[:, None] * C + c[None, :]
        tl.store(out_ptr + at, mixed.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _norm_kernel(
    x_ptr, add_ptr, more_ptr, gate_ptr, weight_ptr, bias_ptr, h_ptr, C, eps, HAS_ADD: tl.constexpr,
    HAS_MORE: tl.constexpr, HAS_GATE: tl.constexpr, STORE_SUM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Layer norm of x + sigmoid(gate) add + more, one row; the sum goes back to x."""
    at = tl.program_id(0).to(tl.int64) * C
    c = tl.arange(0, BC)
    x = tl.load(x_ptr + at + c, mask=c < C, other=0.0).to(tl.float32)
    if HAS_ADD:
        add = tl.load(add_ptr + at + c, mask=c < C, other=0.0).to(tl.float32)
        if HAS_GATE:
            add *= sigmoid(tl.load(gate_ptr + at + c, mask=c < C, other=0.0).to(tl.float32))
        x += add
    if HAS_MORE:
        x += tl.load(more_ptr + at + c, mask=c < C, other=0.0).to(tl.float32)
    if STORE_SUM:
        tl.store(x_ptr + at + c, x.to(x_ptr.dtype.element_ty), mask=c < C)
    mean = tl.sum(x, 0) / C
    centred = tl.where(c < C, x - mean, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 0) / C + eps)
    weight = tl.load(weight_ptr + c, mask=c < C, other=0.0)
    bias = tl.load(bias_ptr + c, mask=c < C, other=0.0)
    tl.store(h_ptr + at + c, (centred * scale * weight + bias).to(h_ptr.dtype.element_ty), mask=c < C)


@triton.jit
def _relu_squared_kernel(x_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < count, other=0.0).to(tl.float32)
    x = tl.maximum(x, 0.0)
    tl.store(x_ptr + at, (x * x).to(x_ptr.dtype.element_ty), mask=at < count)


@triton.jit
def _gate_add_kernel(x_ptr, gate_ptr, value_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < count, other=0.0).to(tl.float32)
    gate = tl.load(gate_ptr + at, mask=at < count, other=0.0).to(tl.float32)
    value = tl.load(value_ptr + at, mask=at < count, other=0.0).to(tl.float32)
    tl.store(x_ptr + at, (x + sigmoid(gate) * value).to(x_ptr.dtype.element_ty), mask=at < count)


def shift_lerps(h: Tensor, before: Tensor | None, mixes: Tensor, starts: Tensor | None = None) -> Tensor:
    """h + (h_prev - h) mix for G static mixes in one pass; twin: `layers.token_shift`.

    Args:
        h: (T, C); before: (N, C), the row before each document, None for zero; mixes: (G, C) float32.
        starts: (T,) int32, see the head of this file; None for one document.

    Returns:
        (G, T, C) in the dtype of h.
    """
    T, C = h.shape
    out = torch.empty(mixes.shape[0], T, C, dtype=h.dtype, device=h.device)
    BC = min(256, triton.next_power_of_2(C))
    _lerp_kernel[(triton.cdiv(T, BLOCK_ROWS), triton.cdiv(C, BC))](
        h, h if before is None else before, h if starts is None else starts, mixes, out, T, C, G=mixes.shape[0],
        HAS_BEFORE=before is not None, PACKED=starts is not None, BT=BLOCK_ROWS, BC=BC, num_warps=4,
    )  # fmt: skip
    return out


def shift_ddlerp(
    h: Tensor, before: Tensor | None, mixes: Tensor, z: Tensor, w2: Tensor, starts: Tensor | None = None
) -> Tensor:
    """h + (h_prev - h) (mix_g + tanh(z_g) w2_g) for G groups in one pass; twin: `finch.data_dependent_mixes`.

    Args:
        h: (T, C); before, mixes, starts: as in `shift_lerps`.
        z: (T, G * rank), before the tanh; w2: (G, rank, C), both in the dtype of h.

    Returns:
        (G, T, C).
    """
    T, C = h.shape
    G, dot = mixes.shape[0], dot_types(h.dtype)
    out = torch.empty(G, T, C, dtype=h.dtype, device=h.device)
    BC = max(16, min(256 // h.element_size(), triton.next_power_of_2(C)))  # what fits the registers
    _ddlerp_kernel[(triton.cdiv(T, BLOCK_ROWS), triton.cdiv(C, BC))](
        h, h if before is None else before, h if starts is None else starts, mixes, z, w2, out, T, C, G=G,
        RANK=w2.shape[1], HAS_BEFORE=before is not None, PACKED=starts is not None, DOT=dot[0], PRECISION=dot[1],
        BT=BLOCK_ROWS, BC=BC, num_warps=4,
    )  # fmt: skip
    return out


def add_norm(
    x: Tensor,
    add: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    *,
    gate: Tensor | None = None,
    more: Tensor | None = None,
    store_sum: bool = True,
    out: Tensor | None = None,
) -> Tensor:
    """Layer norm of x + add + more; x becomes the sum. Twin: `nn.LayerNorm`.

    Args:
        x: (T, C); add, more, gate: (T, C) or None; with a gate, sigmoid(gate) add stands for add.
        weight, bias: (C,) float32.
        store_sum: whether x changes.
        out: where to put the result, contiguous.

    Returns:
        (T, C) in the dtype of x.
    """
    T, C = x.shape
    h = torch.empty_like(x) if out is None else out
    BC = triton.next_power_of_2(C)
    _norm_kernel[(T,)](
        x, x if add is None else add, x if more is None else more, x if gate is None else gate, weight, bias, h, C, eps,
        HAS_ADD=add is not None, HAS_MORE=more is not None, HAS_GATE=gate is not None,
        STORE_SUM=store_sum and not (add is None and more is None), BC=BC, num_warps=4 if BC <= 2048 else 8,
    )  # fmt: skip
    return h


def relu_squared(x: Tensor) -> Tensor:
    """relu(x)^2, in place; x contiguous."""
    _relu_squared_kernel[(triton.cdiv(x.numel(), 2048),)](x, x.numel(), BLOCK=2048, num_warps=4)
    return x


def gate_add(x: Tensor, gate: Tensor, value: Tensor) -> None:
    """x += sigmoid(gate) value, in place; equal shapes and dtypes, contiguous."""
    _gate_add_kernel[(triton.cdiv(x.numel(), 2048),)](x, gate, value, x.numel(), BLOCK=2048, num_warps=4)
