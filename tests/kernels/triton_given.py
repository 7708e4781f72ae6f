"""Where the Triton kernels are tested, on what rows, and how close they have to come."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.kernels.given import relative

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BF16 = pytest.param(torch.bfloat16, marks=pytest.mark.gpu)
DTYPES = [torch.float32, torch.float16, BF16]
LIMITS = {torch.float32: 2e-6, torch.float16: 2**-10, torch.bfloat16: 2**-7}
# Through a matrix product whose factors may be rounded too.
PRODUCT_LIMITS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def rows(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def close(found: Tensor, expected: Tensor, limit: float) -> None:
    assert torch.isfinite(found).all()
    assert relative(found, expected) <= limit
