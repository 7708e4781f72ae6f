"""WKV6 on the CPU in C with gradients (native/wkv6_gradients.c): both directions as one operator.

Notation: B batch, T tokens, H heads, D head dim, K = V = D its key and value channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gfkernels.native.call import call

from .inputs import check_wkv6_inputs
from .native import wkv6
from .operator import differentiable


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
