"""Matrix products of layers that run in C, of rows of either library (`gfkernels.arrays`).

Of numpy's rows they run in C, too (native/product.c): the BLAS that numpy brings has a pool of threads of its own,
which would wait for ours on the same cores. Of torch's rows torch computes them.

Notation: T rows, K summed, N columns, G groups.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from gfkernels.arrays import count, is_numpy
from gfkernels.native.call import call

from .native import MAX_ROW, matvec


def product(x: Any, weight: Any) -> Any:
    """x weight^T as `linear` takes it.

    Args:
        x: (..., K); weight: (N, K).

    Returns:
        (..., N).
    """
    if not is_numpy(x):
        from .linear import linear

        return linear(x, weight)
    if 0 < count(x) == x.shape[-1] <= MAX_ROW and weight.flags.c_contiguous:
        return matvec(weight, x.reshape(-1)).reshape(*x.shape[:-1], -1)
    return times(x, weight.T)


def times(x: Any, matrix: Any) -> Any:
    """x matrix: (..., K) and (K, N), or (G, T, K) and (G, K, N); numpy's in float32."""
    if not is_numpy(x):
        return x @ matrix
    if matrix.ndim == 3:
        return np.stack([times(one, other) for one, other in zip(x, matrix, strict=True)])
    K, N = matrix.shape
    rows = x.reshape(math.prod(x.shape[:-1]), K)
    if rows.strides[1] != rows.itemsize:
        rows = np.ascontiguousarray(rows)
    assert rows.dtype == matrix.dtype == np.float32
    out = np.empty((len(rows), N), np.float32)
    places = [ctypes.c_int64(stride // rows.itemsize) for stride in (rows.strides[0], *matrix.strides)]
    pointers = [ctypes.c_void_p(one.ctypes.data) for one in (rows, matrix, out)]
    if call("product", rows.dtype, len(rows), K, N, pointers[0], places[0], pointers[1], *places[1:], pointers[2]):
        raise MemoryError(f"no memory for a product with {K} x {N} numbers")
    return out.reshape(*x.shape[:-1], N)


def added_times(rows: Any, x: Any, matrix: Any) -> Any:
    """rows + x matrix: (T, N), (T, K), (K, N)."""
    if is_numpy(rows):
        return rows + times(x, matrix)
    import torch

    return torch.addmm(rows, x, matrix)
