"""How Python calls a C kernel: by name and dtype of the rows, with tensors as pointers and everything checked first."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from gfkernels.errors import KernelInputError

from .build import library

NAMES = {torch.float32: "f32", torch.bfloat16: "bf16"}  # dtypes of rows, as the C functions' names begin
MAX_HEAD_DIM = 128  # MAX_D of common.h
MAX_ROW = 16_384  # the same there


def call(name: str, dtype: torch.dtype, *arguments: object) -> int:
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


def check_shapes(op: str, **tensors: tuple[Tensor | None, tuple[int, ...]]) -> None:
    """Raise KernelInputError unless each tensor (None passes) has its shape: C writes where Python would complain."""
    for name, (tensor, shape) in tensors.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise KernelInputError(op, f"{name} of shape {tuple(tensor.shape)}", f"{shape}")
