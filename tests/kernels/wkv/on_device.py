"""Inputs of WKV6 where the Triton kernels are tested, and how close they have to come."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests import tolerances
from tests.kernels.given import inputs
from tests.kernels.triton_given import DEVICE

# Error of one rounding of the result, and of the factors where they are rounded too.
LIMITS = {torch.float32: tolerances.WKV6_FP32, torch.float16: 2e-3, torch.bfloat16: 2e-2}
HALVES = [torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.gpu)]


def on_device(tensors: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """r, k, v, w_raw in `dtype`; u and state in float32."""
    return [x.to(DEVICE, dtype if n < 4 else torch.float32) for n, x in enumerate(tensors)]


def mixed_decays(T: int) -> list[Tensor]:
    """Slow decays, among them steep ones that end every sum that they are part of."""
    r, k, v, w_raw, u, state = inputs(T, -3.0)
    w_raw[:, ::5, :, ::2] = 9.0
    w_raw[:, 3::7, :, 1::2] = 700.0
    return [r, k, v, w_raw, u, state]
