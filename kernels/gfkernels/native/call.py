"""How Python calls a C kernel: by name and dtype of the rows, with rows as pointers and everything checked first."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING

from gfkernels.arrays import address, row_type
from gfkernels.errors import KernelInputError

from .build import default_threads, library

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEAD_DIM = 128  # MAX_D of common.h
MAX_ROW = 16_384  # the same there


def threads() -> int:
    """How many threads a kernel takes: those of torch where it is loaded."""
    torch = sys.modules.get("torch")
    return default_threads() if torch is None else torch.get_num_threads()


def call(name: str, dtype: object, *arguments: object) -> int:
    """Call a kernel: rows go as pointers, ints as 32-bit numbers, floats as C floats; threads come last.

    The return value means something only for kernels that return one.
    """
    function = getattr(library(), f"{row_type(dtype)}_{name}")
    values: list[object] = []
    for argument in arguments:
        if argument is None:
            values.append(ctypes.c_void_p(0))
        elif isinstance(argument, float):
            values.append(ctypes.c_float(argument))
        elif hasattr(argument, "shape"):
            values.append(ctypes.c_void_p(address(argument)))  # type: ignore[arg-type]
        else:
            values.append(argument)
    return function(*values, ctypes.c_int(threads()))


def check_shapes(op: str, **tensors: tuple[Tensor | None, tuple[int, ...]]) -> None:
    """Raise KernelInputError unless each tensor (None passes) has its shape: C writes where Python would complain."""
    for name, (tensor, shape) in tensors.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise KernelInputError(op, f"{name} of shape {tuple(tensor.shape)}", f"{shape}")
