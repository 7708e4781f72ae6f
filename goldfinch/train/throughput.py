"""How much of the machine a training step uses."""

from __future__ import annotations

import functools
import time

import torch

from goldfinch.models.language_model import LanguageModel

from ..devices import synchronize

PROBE = 2048  # rows and columns of the probe's matrices, at most
PROBE_GPU = 8192  # where a smaller product ends before the next is launched
FIRST_PROBE = 256
ENOUGH_S = 0.05  # a product that takes so long tells the rate


@functools.cache
def matrix_rate(device: torch.device, dtype: torch.dtype, *, repeats: int = 8) -> float:
    """FLOP/s of a large matrix product here: the best of a few, which is what a step could reach.

    On a CPU no larger than takes ENOUGH_S: a processor without bf16 instructions needs minutes for a product of PROBE.
    """
    side = PROBE_GPU if device.type == "cuda" else FIRST_PROBE
    while side < PROBE and _product_seconds(side, device, dtype, 1) < ENOUGH_S:
        side *= 2
    return 2 * side**3 / _product_seconds(side, device, dtype, repeats)


def _product_seconds(side: int, device: torch.device, dtype: torch.dtype, repeats: int) -> float:
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        synchronize(device)
        started = time.perf_counter()
        a @ b
        synchronize(device)
        best = min(best, time.perf_counter() - started)
    return best


def training_flops_per_token(model: LanguageModel, sequence: int) -> float:
    """FLOP of one token, forward and backward: 6 per weight of a product, 12 C per seen key of an attention layer."""
    embedding = model.emb.weight.numel()
    weights = sum(p.numel() for p in model.parameters() if p.dim() >= 2 and p.shape[-1] > 1) - embedding
    config = model.config
    attention_layers = config.n_layer - config.n_finch
    return 6.0 * weights + 12.0 * config.d_model * attention_layers * sequence / 2
