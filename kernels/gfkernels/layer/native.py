"""What lies between the matrix products of a layer, on the CPU in C (native/kernels.c, native/decode.c).

Notation: T tokens, C channels, G groups, N rows of a matrix. Rows are float32 or bfloat16 and contiguous, parameter
vectors float32; there are no gradients. All of them are torch's or all numpy's (`gfkernels.arrays`).
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from gfkernels import arrays
from gfkernels.native.build import unavailable
from gfkernels.native.call import MAX_ROW, call, check_shapes

if TYPE_CHECKING:
    from torch import Tensor


def shift_lerp(h: Tensor, before: Tensor | None, mix: Tensor, previous: Tensor | None = None) -> Tensor:
    """h + (h_prev - h) * mix: token shift with a static lerp.

    Args:
        h: (T, C); before: the row before the first (C,), None at the beginning (zero); mix: (C,) float32.
        previous: the row before each row, (T, C), where the rows of h do not follow each other.

    Returns:
        (T, C) in the dtype of h.
    """
    out = arrays.empty(h.shape, h)
    T, C = h.shape
    check_shapes("shift_lerp", before=(before, (C,)), mix=(mix, (C,)), previous=(previous, (T, C)))
    call("shift_lerp", h.dtype, T, C, h, before, previous, mix, out)
    return out


def shift_ddlerp(
    h: Tensor, before: Tensor | None, mix: Tensor, dynamic: Tensor, previous: Tensor | None = None
) -> Tensor:
    """h + (h_prev - h) * (mix[g] + dynamic[g]) for G groups (GoldFinch eq. 3).

    Args:
        h: (T, C); before: (C,) or None; mix: (G, C) float32; dynamic: (G, T, C) in the dtype of h.
        previous: as in `shift_lerp`.

    Returns:
        (G, T, C).
    """
    out = arrays.empty(dynamic.shape, dynamic)
    G, T, C = dynamic.shape
    check_shapes("shift_ddlerp", h=(h, (T, C)), before=(before, (C,)), mix=(mix, (G, C)), previous=(previous, (T, C)))
    call("shift_ddlerp", h.dtype, T, C, G, h, before, previous, mix, dynamic, out)
    return out


def add_norm(
    x: Tensor, add: Tensor | None, weight: Tensor, bias: Tensor, eps: float, out: Tensor | None = None
) -> Tensor:
    """Layer norm of x + add, adding in place: x (T, C) changes; weight and bias (C,) float32. Returns (T, C), `out`
    if given."""
    h = arrays.empty(x.shape, x) if out is None else out
    T, C = x.shape
    call("add_norm", x.dtype, T, C, x, add, weight, bias, float(eps), h)
    return h


def sum_norm(
    y: Tensor, a: Tensor | None, b: Tensor | None, weight: Tensor, bias: Tensor, eps: float, like: Tensor
) -> Tensor:
    """Layer norm of y + a + b. y (T, C) float32, overwritten; a, b (T, C) in the dtype of `like` or None. Returns
    (T, C) in that dtype."""
    out = arrays.empty(y.shape, like)
    T, C = y.shape
    call("sum_norm", like.dtype, T, C, y, a, b, weight, bias, float(eps), out)
    return out


def rms_scale(x: Tensor) -> Tensor:
    """x / (sqrt(mean(x^2)) + 1e-8) per row, (T, C) -> (T, C), as `layers.rms_scale`."""
    out = arrays.empty(x.shape, x)
    T, C = x.shape
    call("rms_scale", x.dtype, T, C, x, out)
    return out


def tanh(x: Tensor) -> Tensor:
    """tanh, in place.

    torch's own, which MKL computes, now and then rounds differently in the first moments of a process (one run of
    five was seen to); equal runs must give equal bits.
    """
    call("tanh", x.dtype, ctypes.c_int64(arrays.count(x)), x)
    return x


def relu_squared(x: Tensor) -> Tensor:
    """relu(x)^2, in place."""
    call("relu_squared", x.dtype, ctypes.c_int64(arrays.count(x)), x)
    return x


def gelu(x: Tensor) -> Tensor:
    """x (1 + erf(x / sqrt(2))) / 2, in place."""
    call("gelu", x.dtype, ctypes.c_int64(arrays.count(x)), x)
    return x


def gate_add(x: Tensor, gate: Tensor, value: Tensor) -> None:
    """x += sigmoid(gate) * value, in place; equal shapes and dtypes."""
    call("gate_add", x.dtype, ctypes.c_int64(arrays.count(x)), x, gate, value)


def matvec(weight: Tensor, x: Tensor) -> Tensor:
    """weight @ x for one row: weight (N, K) contiguous, x (K,) of one dtype, K at most MAX_ROW. Returns (N,)."""
    out = arrays.empty(weight.shape[:1], x)
    call("matvec", x.dtype, weight.shape[0], weight.shape[1], weight, arrays.contiguous(x), out)
    return out


def matvec_fits(weight: Tensor, x: Tensor) -> bool:
    """Whether `matvec` takes this product: one row, on the CPU, one supported dtype, no gradients."""
    import torch

    return (
        x.numel() == x.shape[-1]
        and arrays.row_type(x.dtype) is not None
        and x.dtype == weight.dtype
        and x.device.type == "cpu"
        and weight.shape[1] <= MAX_ROW
        and weight.is_contiguous()
        and not torch.is_grad_enabled()
        and unavailable() is None
    )
