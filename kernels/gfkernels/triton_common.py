"""What the Triton kernels share: when they can run, and small functions of their own on the device.

A kernel runs on CUDA (or ROCm) tensors, or on CPU tensors under Triton's interpreter, which is chosen by
TRITON_INTERPRET=1 before anything imports triton. Arithmetic is float32 whatever the rows are.
"""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import atexit
import contextlib
import os
import stat

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from gfkernels.temporary import temporary_folder


def keep_compiled_private() -> None:
    """Let Triton keep what it compiles where nobody else can write: it loads what lies there, and that is code.

    Its default is .triton in the home folder, which is in the current one for a user without a home, and may be
    anybody's where that home is a folder of many.
    """
    if os.environ.get("TRITON_CACHE_DIR") or os.environ.get("TRITON_HOME"):
        return
    home = os.path.expanduser("~")
    try:
        if os.path.isabs(home):
            os.makedirs(os.path.join(home, ".triton"), mode=0o700, exist_ok=True)
            found = os.lstat(os.path.join(home, ".triton"))
            writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not writable:
                return
    except OSError:  # a home that cannot be written: compiled anew each time
        pass
    kept = contextlib.ExitStack()
    os.environ["TRITON_CACHE_DIR"] = str(kept.enter_context(temporary_folder("gf-triton-")))
    atexit.register(kept.close)


keep_compiled_private()
ROW_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@triton.jit
def one_minus_exp(x):
    """1 - exp(x) for x <= 0 without cancellation near 0."""
    s = 1.0 / 5040.0
    s = s * x + 1.0 / 720.0
    s = s * x + 1.0 / 120.0
    s = s * x + 1.0 / 24.0
    s = s * x + 1.0 / 6.0
    s = s * x + 0.5
    s = s * x + 1.0
    return tl.where(x > -0.3, -x * s, 1.0 - tl.exp(x))


@triton.jit
def tanh_of(x):
    """tanh(|x|) = t / (2 - t) with t = 1 - exp(-2|x|): exact near 0, no overflow."""
    t = one_minus_exp(-2.0 * tl.abs(x))
    y = t / (2.0 - t)
    return tl.where(x < 0, -y, y)


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + tl.exp(-x))


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter: decided when this module was imported."""
    return isinstance(tanh_of, InterpretedFunction)


def obstacle(*tensors: Tensor) -> str | None:
    """Why kernels cannot run on these tensors, None when they can."""
    for x in tensors:
        if x.dtype not in ROW_DTYPES:
            return f"no kernels for {str(x.dtype).split('.')[1]}"
        if x.device.type != "cuda" and not interpreted():
            return f"tensors on {x.device}, Triton needs a GPU (TRITON_INTERPRET=1 interprets, slowly, on the CPU)"
    return None


def dot_types(dtype: torch.dtype) -> tuple[tl.dtype, str]:
    """(dtype of the factors of a matrix product on the device, its input precision) for rows of `dtype`.

    bfloat16 factors span float32's range, so decayed rows may be rounded to them. float16 factors would overflow:
    they stay float32 and lose mantissa only (tf32). float32 rows lose nothing that float32 sums would keep.
    """
    if dtype == torch.bfloat16:
        return tl.bfloat16, "ieee"
    hip = torch.version.hip is not None
    if dtype == torch.float16:
        return tl.float32, "ieee" if hip else "tf32"
    return tl.float32, "ieee" if hip or interpreted() else "tf32x3"


def sum_precision() -> str:
    """Input precision of the products with masks of 0 and 1 that are sums: as exact as float32."""
    return "ieee" if torch.version.hip is not None or interpreted() else "tf32x3"


def channels_together(x: Tensor) -> Tensor:
    """x, copied only when its last axis is not contiguous."""
    return x if x.stride(-1) == 1 else x.contiguous()
