"""Keys and values of a GOLD layer from token ids and compressed_k, a block of tokens at a time (GoldFinch eq. 15-20).

Notation: T rows, C d_model, R width of compressed_k, U token ids that occur, D head dim.

Three facts make this cheap. [x0, c] W_KU = x0 W_e + c W_c, and x0 depends on the token id alone: the first part is a
table with a row per id, the second a product of width R = C / 16. The LoRA of the mixes sees (e_s + (e_s-1 - e_s) m) A
with a static m, which is ((1 - m) e_s) A + (m e_s-1) A: two tables of 64 numbers per id. And values depend on the pair
of ids (s-1, s) alone. What is left are two products of width C / 16 for keys and two for values.
"""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gfkernels.triton_common import dot_types, tanh_of

BLOCK_ROWS = 32


@triton.jit
def _compressed(c_ptr, rows, r, inside, R):
    """Rows of compressed_k in float32. A codec that stores fewer bits is read here, and nowhere else."""
    mask = inside[:, None] & (r < R)[None, :]
    return tl.load(c_ptr + rows.to(tl.int64)[:, None] * R + r[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["T"])
def _k_cache_kernel(
    ids_ptr, c_ptr, table_ptr, weight_ptr, x_ptr, scale_ptr, T, C, R, weight_row, DOT: tl.constexpr,
    PRECISION: tl.constexpr, BT: tl.constexpr, BC: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    """x = table[id] + c W_c^T, and 1 / (rms(x) + 1e-8) of every row: kappa = x * scale."""
    t = tl.program_id(0) * BT + tl.arange(0, BT)
    inside = t < T
    r = tl.arange(0, BR)
    ids = tl.load(ids_ptr + t, mask=inside, other=0)
    c = _compressed(c_ptr, t, r, inside, R).to(DOT)
    squares = tl.zeros((BT,), tl.float32)
    for at in range(0, C, BC):
        j = at + tl.arange(0, BC)
        mask = inside[:, None] & (j < C)[None, :]
        weight = tl.load(weight_ptr + j[None, :] * weight_row + r[:, None],
                         mask=(r < R)[:, None] & (j < C)[None, :], other=0.0).to(DOT)  # fmt: skip
        x = tl.load(table_ptr + ids.to(tl.int64)[:, None] * C + j[None, :], mask=mask, other=0.0).to(tl.float32)
        x = tl.dot(c, weight, acc=x, input_precision=PRECISION)
        squares += tl.sum(x * x, 1)
        tl.store(x_ptr + t.to(tl.int64)[:, None] * C + j[None, :], x.to(x_ptr.dtype.element_ty), mask=mask)
    tl.store(scale_ptr + t, 1.0 / (tl.sqrt(squares / C) + 1e-8), mask=inside)


@triton.jit(do_not_specialize=["T", "group", "first"])
def _mix_kernel(
    source_ptr, scale_ptr, ids_ptr, now_ptr, before_ptr, w2_ptr, mix_ptr, out_ptr, T, C, group, first,
    GATHER: tl.constexpr, RANK: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr, BT: tl.constexpr,
    BC: tl.constexpr,
):  # fmt: skip
    """source_s + (source_s-1 - source_s) (mix + tanh(now[id_s] + before[id_s-1]) w2), rows `first` .. T - 1.

    GATHER: the source is a table with a row per id; else it has a row per token, to be scaled."""
    t = first + tl.program_id(0) * BT + tl.arange(0, BT)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    i = tl.arange(0, RANK)
    inside = t < T
    shifted = inside & (t > 0)
    ids = tl.load(ids_ptr + t, mask=inside, other=0).to(tl.int64)
    ids_before = tl.load(ids_ptr + t - 1, mask=shifted, other=0).to(tl.int64)
    z = tl.load(now_ptr + ids[:, None] * (2 * RANK) + group * RANK + i[None, :], mask=inside[:, None], other=0.0)
    z += tl.load(before_ptr + ids_before[:, None] * (2 * RANK) + group * RANK + i[None, :], mask=shifted[:, None],
                 other=0.0)  # fmt: skip
    w2 = tl.load(w2_ptr + i[:, None] * C + c[None, :], mask=(c < C)[None, :], other=0.0)
    dynamic = tl.dot(tanh_of(z).to(DOT), w2.to(DOT), input_precision=PRECISION)
    mask = inside[:, None] & (c < C)[None, :]
    mask_before = shifted[:, None] & (c < C)[None, :]
    if GATHER:
        x = tl.load(source_ptr + ids[:, None] * C + c[None, :], mask=mask, other=0.0).to(tl.float32)
        previous = tl.load(source_ptr + ids_before[:, None] * C + c[None, :], mask=mask_before, other=0.0)
        previous = previous.to(tl.float32)
    else:
        rows = t.to(tl.int64)[:, None] * C + c[None, :]
        x = tl.load(source_ptr + rows, mask=mask, other=0.0).to(tl.float32)
        x *= tl.load(scale_ptr + t, mask=inside, other=0.0)[:, None]
        previous = tl.load(source_ptr + rows - C, mask=mask_before, other=0.0).to(tl.float32)
        previous *= tl.load(scale_ptr + t - 1, mask=shifted, other=0.0)[:, None]
    mix = tl.load(mix_ptr + c, mask=c < C, other=0.0)
    mixed = x + (previous - x) * (mix[None, :] + dynamic)
    tl.store(
        out_ptr + (t - first).to(tl.int64)[:, None] * C + c[None, :], mixed.to(out_ptr.dtype.element_ty), mask=mask
    )


@triton.jit
def _tanh_kernel(x_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < count, other=0.0).to(tl.float32)
    tl.store(x_ptr + at, tanh_of(x).to(x_ptr.dtype.element_ty), mask=at < count)


def k_cache_rows(ids: Tensor, compressed_k: Tensor, table: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """TokenCat (eq. 15) as rows and their scales: kappa = rows * scales[:, None]; twin: `gold.k_cache_rows`.

    Args:
        ids: (T,) int64, rows of the table; compressed_k: (T, R) contiguous.
        table: (U, C), x0 W_e of every id; weight: (C, R), the part of W_KU that sees c, rows any distance apart.

    Returns:
        rows (T, C) in the dtype of the table, scales (T,) float32.
    """
    T, R = compressed_k.shape
    C = table.shape[1]
    dot, precision = dot_types(table.dtype)
    rows = torch.empty(T, C, dtype=table.dtype, device=table.device)
    scales = torch.empty(T, dtype=torch.float32, device=table.device)
    BT = BLOCK_ROWS if table.element_size() == 2 else BLOCK_ROWS // 2  # float32 rows would not fit the registers
    BR = max(16, triton.next_power_of_2(R))
    # Whole rows of the weight go through shared memory: fewer of them, and none ahead, where they are wide.
    row_bytes = BR * table.element_size()
    _k_cache_kernel[(triton.cdiv(T, BT),)](
        ids, compressed_k, table, weight, rows, scales, T, C, R, weight.stride(0), DOT=dot, PRECISION=precision,
        BT=BT, BC=32 if row_bytes > 1024 else 64, BR=BR, num_warps=4, **({"num_stages": 1} if row_bytes > 512 else {}),
    )  # fmt: skip
    return rows, scales


def mixed_rows(
    source: Tensor,
    scales: Tensor | None,
    ids: Tensor,
    tables: tuple[Tensor, Tensor],
    group: int,
    w2: Tensor,
    mix: Tensor,
    first: int,
) -> Tensor:
    """Token shift with the GOLD layers' data-dependent mix (eq. 19, 20), in one pass.

    Args:
        source: (T, C) rows with scales (T,), or, without scales, a table (U, C) with a row per id.
        ids: (T,) int64.
        tables: (now, before), each (U, 2 * rank) float32: the LoRA's input from a token and from the one before it.
        group: 0 for keys, 1 for values; w2: (rank, C); mix: (C,) float32.
        first: 1 when row 0 is only there for the shift of row 1, else 0.

    Returns:
        (T - first, C).
    """
    T, C = ids.shape[0], source.shape[1]
    dot, precision = dot_types(source.dtype)
    out = torch.empty(T - first, C, dtype=source.dtype, device=source.device)
    BC = max(16, min(256 // source.element_size(), triton.next_power_of_2(C)))
    _mix_kernel[(triton.cdiv(T - first, BLOCK_ROWS), triton.cdiv(C, BC))](
        source, tables[0] if scales is None else scales, ids, tables[0], tables[1], w2, mix, out, T, C, group, first,
        GATHER=scales is None, RANK=w2.shape[0], DOT=dot, PRECISION=precision, BT=BLOCK_ROWS, BC=BC, num_warps=4,
    )  # fmt: skip
    return out


def tanh(x: Tensor) -> Tensor:
    """tanh, in place; x contiguous."""
    _tanh_kernel[(triton.cdiv(x.numel(), 1024),)](x, x.numel(), BLOCK=1024, num_warps=4)
    return x
