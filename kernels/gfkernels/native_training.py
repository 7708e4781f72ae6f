"""WKV6 with gradients on the CPU from the C kernels (native_kernels.c, native_gradients.c): what `gf train` uses.

Operators of their own, so that torch.compile calls them as they are: the chunked torch form, which it would look into,
costs more than all matrix products of a small model together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import native
from .wkv6_inputs import check_wkv6_inputs

INPUTS = "Tensor r, Tensor k, Tensor v, Tensor w_raw, Tensor? u, Tensor state"


@torch.library.custom_op("gfkernels::wkv6_native", mutates_args=(), schema=f"({INPUTS}) -> (Tensor, Tensor)")
def _forward(r: Tensor, k: Tensor, v: Tensor, w_raw: Tensor, u: Tensor | None, state: Tensor) -> tuple[Tensor, Tensor]:
    r, k, v, w_raw = _contiguous(r, k, v, w_raw)
    return native.wkv6(r, k, v, w_raw, torch.zeros(r.shape[2:]), None if u is None else u.contiguous(), state)


@_forward.register_fake
def _(r: Tensor, k: Tensor, v: Tensor, w_raw: Tensor, u: Tensor | None, state: Tensor) -> tuple[Tensor, Tensor]:
    return r.new_empty(r.shape), state.new_empty(state.shape)


@torch.library.custom_op(
    "gfkernels::wkv6_native_gradients",
    mutates_args=(),
    schema=f"({INPUTS}, Tensor dy, Tensor d_end) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _gradients(
    r: Tensor, k: Tensor, v: Tensor, w_raw: Tensor, u: Tensor | None, state: Tensor, dy: Tensor, d_end: Tensor
) -> tuple[Tensor, ...]:
    r, k, v, w_raw, state, dy = _contiguous(r, k, v, w_raw, state, dy)
    return native.wkv6_gradients(r, k, v, w_raw, None if u is None else u.contiguous(), state, dy, d_end)


@_gradients.register_fake
def _(
    r: Tensor, k: Tensor, v: Tensor, w_raw: Tensor, u: Tensor | None, state: Tensor, dy: Tensor, d_end: Tensor
) -> tuple[Tensor, ...]:
    rows = [x.new_empty(x.shape) for x in (r, k, v, w_raw)]
    return (*rows, r.new_empty(r.shape[2:]), state.new_empty(state.shape))


def _keep_inputs(ctx: Any, inputs: tuple[Tensor | None, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, dy: Tensor, d_end: Tensor) -> tuple[Tensor | None, ...]:
    inputs = ctx.saved_tensors
    dr, dk, dv, dw_raw, du, d_state = _gradients(*inputs, dy, d_end)
    return dr, dk, dv, dw_raw, None if inputs[4] is None else du, d_state


_forward.register_autograd(_backward, setup_context=_keep_inputs)


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
    B, _, H, D = r.shape
    state = r.new_zeros(B, H, D, D, dtype=torch.float32) if wkv_state is None else wkv_state.float()
    y, end = _forward(r.float(), k.float(), v.float(), w_raw.float(), None if u is None else u.float(), state)
    return y.to(r.dtype), end


def _contiguous(*tensors: Tensor) -> list[Tensor]:
    return [x.contiguous() for x in tensors]
