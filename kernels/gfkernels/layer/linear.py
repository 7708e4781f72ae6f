"""A matrix product that decoding takes one row at a time."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from gfkernels.dispatch import requested_backend

from .native import matvec, matvec_fits


def linear(x: Tensor, weight: Tensor, backend: str | None = None) -> Tensor:
    """x weight^T; one row at a time goes to the C kernel where it can.

    Args:
        x: (..., K); weight: (N, K).
        backend: "auto" or "native" for that, anything else for PyTorch; None asks GF_KERNELS.

    Returns:
        (..., N).
    """
    # The shape comes first: a compiler that traces this for many rows must not meet the environment.
    if x.numel() == x.shape[-1] and requested_backend(backend) in ("auto", "native") and matvec_fits(weight, x):
        return matvec(weight, x.reshape(-1)).view(*x.shape[:-1], -1)
    return F.linear(x, weight)
