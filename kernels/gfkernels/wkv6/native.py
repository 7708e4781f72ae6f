"""WKV6 with gradients on the CPU from the C kernels (kernels.c, wkv6_gradients.c): what `gf train` uses."""

from __future__ import annotations

import torch
from torch import Tensor

from gfkernels.native import build as native

from .inputs import check_wkv6_inputs
from .operator import differentiable


def _forward(
    r: Tensor, k: Tensor, v: Tensor, w_raw: Tensor, u: Tensor | None, wkv_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    r, k, v, w_raw = (x.contiguous() for x in (r, k, v, w_raw))
    bonus = None if u is None else u.contiguous()
    return native.wkv6(r, k, v, w_raw, torch.zeros(r.shape[2:]), bonus, _state(r, wkv_state))


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
    found = native.wkv6_gradients(r, k, v, w_raw, bonus, _state(r, wkv_state).contiguous(), dy, d_end)
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
    """WKV6 with gradients for every argument; contract of `wkv6_ref.wkv6_recurrent`, K = V = D.

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
