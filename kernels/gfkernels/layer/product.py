"""The matrix product of layers that run in C, of rows of either library (`gfkernels.arrays`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gfkernels.arrays import count, is_numpy

from .native import MAX_ROW, matvec

if TYPE_CHECKING:
    from torch import Tensor


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x weight^T as `linear` takes it: one row at a time in C, more by torch, or by the BLAS that numpy brings.

    Args:
        x: (..., K); weight: (N, K).

    Returns:
        (..., N).
    """
    if not is_numpy(x):
        from .linear import linear

        return linear(x, weight)
    one_row = count(x) == x.shape[-1] <= MAX_ROW
    if one_row and weight.flags.c_contiguous:  # type: ignore[attr-defined]
        return matvec(weight, x.reshape(-1)).reshape(*x.shape[:-1], -1)
    return x @ weight.T
