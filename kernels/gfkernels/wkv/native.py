"""WKV6 on the CPU in C: forwards (native/kernels.c), gradients (native/wkv6_gradients.c), and both as one operator.

Notation: B batch, T tokens, H heads, D head dim, K = V = D its key and value channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gfkernels.native.build import unavailable
from gfkernels.native.call import MAX_HEAD_DIM, NAMES, call, check_shapes

from .inputs import check_wkv6_inputs
from .operator import differentiable


def supports(dtype: torch.dtype, head_dim: int) -> bool:
    """Whether the kernels are written for these rows: float32 or bfloat16, head dim 16, 32, ... 128."""
    return dtype in NAMES and head_dim % 16 == 0 and head_dim <= MAX_HEAD_DIM


def obstacle(device: str, dtype: torch.dtype, K: int, V: int) -> str | None:
    """Why WKV6 over such rows with heads of K and V channels cannot run here, None when it can."""
    if device != "cpu":
        return f"tensors on {device}"
    if K != V or not supports(dtype, K):
        return f"{dtype} with K {K}, V {V}"
    return unavailable()


def wkv6(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    w_low: Tensor,
    decay: Tensor,
    bonus: Tensor | None,
    wkv_state: Tensor,
    *,
    times_one_minus_w: bool = False,
) -> tuple[Tensor, Tensor]:
    """WKV6 token by token with the state in the first-level cache; exact for every decay. Twin: `wkv6_recurrent`.

    Args:
        r, k, v: (B, T, H, D) or, without a batch, (T, H, D); w_low: the same, the data-dependent part of w_raw; all in
            one dtype.
        decay: (H, D) float32, the static part: w_raw = decay + w_low.
        bonus: (H, D) float32, u of Finch, or None.
        wkv_state: (B, H, V, K) or (H, V, K) float32 before the tokens; not changed.
        times_one_minus_w: multiply k by 1 - w first (Finch-C2).

    Returns:
        y, of r's shape, in float32, and the state after the tokens.

    Raises:
        KernelInputError: other shapes.
    """
    B, T, H, D = r.shape if r.dim() == 4 else (1, *r.shape)
    rows, heads, states = tuple(r.shape), (H, D), (B, H, D, D) if r.dim() == 4 else (H, D, D)
    check_shapes("wkv6", k=(k, rows), v=(v, rows), w_low=(w_low, rows), decay=(decay, heads), bonus=(bonus, heads))
    check_shapes("wkv6", wkv_state=(wkv_state, states))
    state = wkv_state.to(torch.float32).contiguous().clone()
    y = torch.empty(r.shape, dtype=torch.float32)
    call("wkv6", r.dtype, B, T, H, D, r, k, v, w_low, decay, int(times_one_minus_w), bonus, state, y)
    return y, state


def wkv6_gradients(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    w_raw: Tensor,
    bonus: Tensor | None,
    wkv_state: Tensor,
    dy: Tensor,
    d_end: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of WKV6 (`wkv6` with decay 0). Twin: autograd of `wkv6_recurrent`.

    Args:
        r, k, v, w_raw: (B, T, H, D), contiguous float32; bonus: (H, D) float32 or None.
        wkv_state: (B, H, V, K) float32, the state before the tokens.
        dy: (B, T, H, D), the gradient of y; d_end: (B, H, V, K), that of the state after the tokens.

    Returns:
        gradients of r, k, v, w_raw, bonus (H, D; zeros without one) and wkv_state, all float32.

    Raises:
        MemoryError: the scratch memory of 36 T D bytes per thread cannot be had.
    """
    B, T, H, D = r.shape
    dr, dk, dv, dw = (torch.empty_like(r) for _ in range(4))
    du = torch.zeros(B, H, D)
    d_state = d_end.to(torch.float32).contiguous().clone()
    failed = call(
        "wkv6_gradients", r.dtype, B, T, H, D, r, k, v, w_raw, bonus, wkv_state, dy, dr, dk, dv, dw, du, d_state
    )
    if failed:
        raise MemoryError(f"no memory for the gradients of {T} tokens")
    return dr, dk, dv, dw, du.sum(0), d_state


def _forward(
    r: Tensor, k: Tensor, v: Tensor, w_raw: Tensor, u: Tensor | None, wkv_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    r, k, v, w_raw = (x.contiguous() for x in (r, k, v, w_raw))
    bonus = None if u is None else u.contiguous()
    return wkv6(r, k, v, w_raw, torch.zeros(r.shape[2:]), bonus, _state(r, wkv_state))


def _gradients(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    w_raw: Tensor,
    u: Tensor | None,
    wkv_state: Tensor | None,
    dy: Tensor,
    d_end: Tensor,
) -> tuple[Tensor | None, ...]:
    r, k, v, w_raw, dy = (x.contiguous() for x in (r, k, v, w_raw, dy))
    bonus = None if u is None else u.contiguous()
    found = wkv6_gradients(r, k, v, w_raw, bonus, _state(r, wkv_state).contiguous(), dy, d_end)
    return *found[:4], None if u is None else found[4], None if wkv_state is None else found[5]


def _state(r: Tensor, wkv_state: Tensor | None) -> Tensor:
    B, _, H, D = r.shape
    return r.new_zeros(B, H, D, D) if wkv_state is None else wkv_state


_operator = differentiable("wkv6_native", _forward, _gradients)


def wkv6_differentiable(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    w_raw: Tensor,
    u: Tensor | None = None,
    wkv_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """WKV6 with gradients for every argument; contract of `wkv6_recurrent`, K = V = D.

    Args:
        r, k, v, w_raw: (B, T, H, D) on the CPU, float32 or bfloat16; computed in float32.
        u: (H, D) or None; wkv_state: (B, H, D, D) or None.

    Returns:
        y (B, T, H, D) in the dtype of r; the state after the last token in float32.

    Raises:
        NativeUnavailable: the kernels cannot be compiled here.
        KernelInputError: shapes that do not belong together.
    """
    check_wkv6_inputs("wkv6_differentiable", r, k, v, w_raw, u, wkv_state)
    u, wkv_state = (None if x is None else x.float() for x in (u, wkv_state))
    y, end = _operator(r.float(), k.float(), v.float(), w_raw.float(), u, wkv_state)
    return y.to(r.dtype), end
