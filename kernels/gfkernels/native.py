"""CPU kernels in C (native_*.c), compiled on first use by the machine's C compiler (native_build.py).

Notation: B batch (1 where it is not named), T tokens, C channels, H heads, D head dim. Rows are float32 or bfloat16 and
contiguous; states and parameter vectors are float32. WKV6 alone has gradients (native_training.py).

The library is linked without an OpenMP runtime of its own and takes the one that torch has loaded: two pools of threads
on the same cores would wait for each other.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess

import torch
from torch import Tensor

from . import native_build
from .errors import KernelInputError

COMPILERS = ("cc", "gcc", "clang")
NAMES = {torch.float32: "f32", torch.bfloat16: "bf16"}
MAX_HEAD_DIM = 128  # MAX_D of native_common.h
MAX_ROW = 16_384  # the same there


class NativeUnavailable(Exception):
    """The kernels cannot be compiled or loaded here; the text says why."""


@functools.cache
def loaded() -> native_build.Loaded:
    """The compiled kernels and where they are.

    Raises:
        NativeUnavailable: no compiler, a compiler that fails, a library that cannot be loaded.
    """
    compiler = os.environ.get("CC") or next((name for name in COMPILERS if shutil.which(name)), None)
    if compiler is None:
        raise NativeUnavailable("no C compiler found (cc, gcc, clang, or the variable CC)")
    try:
        return native_build.load(compiler)
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        raise NativeUnavailable(f"{compiler} cannot build the kernels: {str(detail).strip()[:300]}") from error


def library() -> ctypes.CDLL:
    """The compiled kernels; raises what `loaded` does."""
    return loaded().library


@functools.cache
def unavailable() -> str | None:
    """Why the kernels cannot be used here; None when they can."""
    try:
        library()
    except NativeUnavailable as error:
        return str(error)
    return None


def _call(name: str, dtype: torch.dtype, *arguments: object) -> int:
    """Call a kernel: tensors go as pointers, ints as 32-bit numbers, floats as C floats; threads come last.

    The return value means something only for kernels that return one.
    """
    function = getattr(library(), f"{NAMES[dtype]}_{name}")
    values: list[object] = []
    for argument in arguments:
        if argument is None:
            values.append(ctypes.c_void_p(0))
        elif isinstance(argument, Tensor):
            assert argument.is_contiguous()
            assert argument.device.type == "cpu"
            values.append(ctypes.c_void_p(argument.data_ptr()))
        elif isinstance(argument, float):
            values.append(ctypes.c_float(argument))
        else:
            values.append(argument)
    return function(*values, ctypes.c_int(torch.get_num_threads()))


def _check_shapes(op: str, **tensors: tuple[Tensor | None, tuple[int, ...]]) -> None:
    """Raise KernelInputError unless each tensor (None passes) has its shape: C writes where Python would complain."""
    for name, (tensor, shape) in tensors.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise KernelInputError(op, f"{name} of shape {tuple(tensor.shape)}", f"{shape}")


def shift_lerp(h: Tensor, before: Tensor | None, mix: Tensor, previous: Tensor | None = None) -> Tensor:
    """h + (h_prev - h) * mix: token shift with a static lerp.

    Args:
        h: (T, C); before: the row before the first (C,), None at the beginning (zero); mix: (C,) float32.
        previous: the row before each row, (T, C), where the rows of h do not follow each other.

    Returns:
        (T, C) in the dtype of h.
    """
    out = torch.empty_like(h)
    T, C = h.shape
    _check_shapes("shift_lerp", before=(before, (C,)), mix=(mix, (C,)), previous=(previous, (T, C)))
    _call("shift_lerp", h.dtype, T, C, h, before, previous, mix, out)
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
    out = torch.empty_like(dynamic)
    G, T, C = dynamic.shape
    _check_shapes("shift_ddlerp", h=(h, (T, C)), before=(before, (C,)), mix=(mix, (G, C)), previous=(previous, (T, C)))
    _call("shift_ddlerp", h.dtype, T, C, G, h, before, previous, mix, dynamic, out)
    return out


def add_norm(
    x: Tensor, add: Tensor | None, weight: Tensor, bias: Tensor, eps: float, out: Tensor | None = None
) -> Tensor:
    """Layer norm of x + add, adding in place: x (T, C) changes; weight and bias (C,) float32. Returns (T, C), `out`
    if given."""
    h = torch.empty_like(x) if out is None else out
    T, C = x.shape
    _call("add_norm", x.dtype, T, C, x, add, weight, bias, float(eps), h)
    return h


def sum_norm(
    y: Tensor, a: Tensor | None, b: Tensor | None, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype
) -> Tensor:
    """Layer norm of y + a + b. y (T, C) float32, overwritten; a, b (T, C) in `dtype` or None. Returns (T, C)."""
    out = torch.empty(y.shape, dtype=dtype)
    T, C = y.shape
    _call("sum_norm", dtype, T, C, y, a, b, weight, bias, float(eps), out)
    return out


def rms_scale(x: Tensor) -> Tensor:
    """x / (sqrt(mean(x^2)) + 1e-8) per row, (T, C) -> (T, C), as `layers.rms_scale`."""
    out = torch.empty_like(x)
    T, C = x.shape
    _call("rms_scale", x.dtype, T, C, x, out)
    return out


def tanh(x: Tensor) -> Tensor:
    """tanh, in place.

    torch's own, which MKL computes, now and then rounds differently in the first moments of a process (one run of
    five was seen to); equal runs must give equal bits.
    """
    _call("tanh", x.dtype, ctypes.c_int64(x.numel()), x)
    return x


def relu_squared(x: Tensor) -> Tensor:
    """relu(x)^2, in place."""
    _call("relu_squared", x.dtype, ctypes.c_int64(x.numel()), x)
    return x


def gate_add(x: Tensor, gate: Tensor, value: Tensor) -> None:
    """x += sigmoid(gate) * value, in place; equal shapes and dtypes."""
    _call("gate_add", x.dtype, ctypes.c_int64(x.numel()), x, gate, value)


def matvec(weight: Tensor, x: Tensor) -> Tensor:
    """weight @ x for one row: weight (N, K) contiguous, x (K,) of one dtype, K at most MAX_ROW. Returns (N,)."""
    out = torch.empty(weight.shape[0], dtype=x.dtype)
    _call("matvec", x.dtype, weight.shape[0], weight.shape[1], weight, x.contiguous(), out)
    return out


def matvec_fits(weight: Tensor, x: Tensor) -> bool:
    """Whether `matvec` takes this product: one row, on the CPU, one supported dtype, no gradients."""
    return (
        x.numel() == x.shape[-1]
        and x.dtype in NAMES
        and x.dtype == weight.dtype
        and x.device.type == "cpu"
        and weight.shape[1] <= MAX_ROW
        and weight.is_contiguous()
        and not torch.is_grad_enabled()
        and unavailable() is None
    )


def supports(dtype: torch.dtype, head_dim: int) -> bool:
    """Whether the kernels are written for these rows: float32 or bfloat16, head dim 16, 32, ... 128."""
    return dtype in NAMES and head_dim % 16 == 0 and head_dim <= MAX_HEAD_DIM


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
    _check_shapes("wkv6", k=(k, rows), v=(v, rows), w_low=(w_low, rows), decay=(decay, heads), bonus=(bonus, heads))
    _check_shapes("wkv6", wkv_state=(wkv_state, states))
    state = wkv_state.to(torch.float32).contiguous().clone()
    y = torch.empty(r.shape, dtype=torch.float32)
    _call("wkv6", r.dtype, B, T, H, D, r, k, v, w_low, decay, int(times_one_minus_w), bonus, state, y)
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
    failed = _call(
        "wkv6_gradients", r.dtype, B, T, H, D, r, k, v, w_raw, bonus, wkv_state, dy, dr, dk, dv, dw, du, d_state
    )
    if failed:
        raise MemoryError(f"no memory for the gradients of {T} tokens")
    return dr, dk, dv, dw, du.sum(0), d_state
