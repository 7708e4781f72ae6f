"""What the tests of WKV6 are given, and how results are compared."""

from __future__ import annotations

import torch
from torch import Tensor


def relative(found: Tensor, expected: Tensor) -> float:
    scale = expected.double().abs().max().clamp_min(1e-30)  # an output may be all zeros
    return float((found.double() - expected.double()).abs().max() / scale)


def inputs(T: int, w_high: float, seed: int = 0, B: int = 2, H: int = 2, K: int = 16, V: int = 24) -> list[Tensor]:
    """r, k, v, w_raw, u, state in float64; V differs from K on purpose."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    w_raw = torch.rand(B, T, H, K, generator=g, dtype=torch.float64) * (w_high + 8) - 8
    return [normal(B, T, H, K), normal(B, T, H, K), normal(B, T, H, V), w_raw, normal(H, K), normal(B, H, V, K)]
