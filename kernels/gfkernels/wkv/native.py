"""WKV6 on the CPU in C, forwards (native/kernels.c). Gradients: native_gradients.py.

Notation: B batch, T tokens, H heads, D head dim, K = V = D its key and value channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gfkernels import arrays
from gfkernels.native.build import unavailable
from gfkernels.native.call import MAX_HEAD_DIM, call, check_shapes

if TYPE_CHECKING:
    from torch import Tensor


def supports(dtype: object, head_dim: int) -> bool:
    """Whether the kernels are written for these rows: float32 or bfloat16, head dim 16, 32, ... 128."""
    return arrays.row_type(dtype) is not None and head_dim % 16 == 0 and head_dim <= MAX_HEAD_DIM


def obstacle(device: str, dtype: object, K: int, V: int) -> str | None:
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
    B, T, H, D = r.shape if len(r.shape) == 4 else (1, *r.shape)
    rows, heads, states = tuple(r.shape), (H, D), (B, H, D, D) if len(r.shape) == 4 else (H, D, D)
    check_shapes("wkv6", k=(k, rows), v=(v, rows), w_low=(w_low, rows), decay=(decay, heads), bonus=(bonus, heads))
    check_shapes("wkv6", wkv_state=(wkv_state, states))
    state = arrays.copied(arrays.as_f32(wkv_state))
    y = arrays.empty(r.shape, r, f32=True)
    call("wkv6", r.dtype, B, T, H, D, r, k, v, w_low, decay, int(times_one_minus_w), bonus, state, y)
    return y, state
