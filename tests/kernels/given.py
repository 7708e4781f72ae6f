"""What the tests of kernels are given, and how results are compared."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Form = Callable[..., tuple[Tensor, Tensor]]


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


def square_inputs(B: int, T: int, H: int, D: int, w_high: float) -> list[Tensor]:
    """r, k, v, w_raw in -6 .. w_high, u, state in float32, K = V = D."""
    g = torch.Generator().manual_seed(T + D)
    shapes = [(B, T, H, D)] * 4 + [(H, D), (B, H, D, D)]
    tensors = [torch.randn(*shape, generator=g) for shape in shapes]
    tensors[3] = torch.rand(B, T, H, D, generator=g) * (w_high + 6) - 6
    return tensors


def rows(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def gradients(form: Form, given: list[Tensor | None], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """y, end and the gradients of a sum with random weights over both."""
    leaves = [None if x is None else x.to(dtype).requires_grad_() for x in given]
    y, end = form(*leaves)
    g = torch.Generator().manual_seed(1)
    weights = [torch.randn(x.shape, generator=g, dtype=torch.float64).to(x) for x in (y, end)]
    loss = (y * weights[0]).sum() + (end * weights[1]).sum()
    return y.detach(), end.detach(), *torch.autograd.grad(loss, [x for x in leaves if x is not None])
