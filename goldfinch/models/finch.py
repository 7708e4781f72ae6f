"""Time mixes of the recurrent layers: Finch (RWKV-6, arXiv 2404.05892) and Finch-C2 (GoldFinch section 3.1).

Notation: B batch, T tokens, C d_model, H heads, K key channels, V value channels of a head.
w_raw is the projection; log_w = -exp(w_raw); w = exp(log_w) in (0, 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from gfkernels import wkv6
from gfkernels.precision import accumulation_dtype
from torch import Tensor, nn

from .config import DECAY_LORA_RANK, SHIFT_LORA_RANK, VALUE2_LORA_RANK, ModelConfig
from .layers import (
    GroupNorm,
    LayerNorm,
    Linear,
    lora_pair,
    mix_vector,
    parameter,
    split_heads,
    token_shift,
)
from .state import LayerState


def data_dependent_mixes(
    h: Tensor, shift: Tensor, maa_x: Tensor, w1: Tensor, w2: Tensor, maas: Sequence[Tensor]
) -> list[Tensor]:
    """ddlerp with one common LoRA (GoldFinch eq. 3).

    Args:
        h, shift: (B, T, C), the normed input and its token shift.
        maa_x: mu_x (1, 1, C); w1 (C, n * 32); w2 (n, 32, C).
        maas: the n static mix vectors (1, 1, C), in the order of the groups of w2.

    Returns:
        n mixed inputs (B, T, C).
    """
    B, T, _ = h.shape
    z = torch.tanh((h + shift * maa_x) @ w1).view(B * T, len(maas), -1)  # (B*T, n, 32)
    dynamic = torch.bmm(z.transpose(0, 1), w2)  # (n, B*T, C)
    return [torch.addcmul(h, shift, maa + dynamic[i].view_as(h)) for i, maa in enumerate(maas)]


class RecurrentTimeMix(nn.Module):
    """What Finch and Finch-C2 share: mixes, projections, decay and the order of the mix groups."""

    groups: tuple[str, ...]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        C, n = config.d_model, len(self.groups)
        self.config = config
        self.time_maa_x = mix_vector(C)
        for group in self.groups:
            setattr(self, f"time_maa_{group}", mix_vector(C))
        self.time_maa_w1 = parameter(C, n * SHIFT_LORA_RANK)
        self.time_maa_w2 = parameter(n, SHIFT_LORA_RANK, C)
        self.time_decay = mix_vector(C)
        self.time_decay_w1, self.time_decay_w2 = lora_pair(C, DECAY_LORA_RANK, C)
        self.time_faaaa = parameter(config.n_head, config.head_dim)
        self.receptance = Linear(C, C)
        self.key = Linear(C, C)
        self.value = Linear(C, C)
        self.output = Linear(C, C)

    def mixed(self, h: Tensor, shift: Tensor) -> list[Tensor]:
        maas = [getattr(self, f"time_maa_{g}") for g in self.groups]
        return data_dependent_mixes(h, shift, self.time_maa_x, self.time_maa_w1, self.time_maa_w2, maas)

    def raw_decay(self, x_w: Tensor) -> Tensor:
        """w_raw (B, T, C) in float32 or better: exp(-exp(.)) amplifies the rounding of a bf16 sum."""
        low_rank = torch.tanh(x_w @ self.time_decay_w1) @ self.time_decay_w2
        acc = accumulation_dtype(x_w.dtype)
        return self.time_decay.to(acc) + low_rank.to(acc)

    def heads(self, *tensors: Tensor) -> list[Tensor]:
        return [split_heads(x, self.config.head_dim) for x in tensors]


class FinchTimeMix(RecurrentTimeMix):
    """RWKV-6: bonus for the current token, one group norm per head, a silu gate."""

    groups = ("w", "k", "v", "r", "g")

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        C = config.d_model
        self.gate = Linear(C, C)
        self.ln_x = GroupNorm(config.n_head, C, eps=1e-5 * config.group_norm_divisor**2)

    def forward(self, h: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """h (B, T, C) -> out (B, T, C) and the layer's state after it."""
        B, T, C = h.shape
        x_w, x_k, x_v, x_r, x_g = self.mixed(h, token_shift(h, state.time_shift_state))
        r, k, v, w_raw = self.heads(self.receptance(x_r), self.key(x_k), self.value(x_v), self.raw_decay(x_w))
        y, wkv_state = wkv6(r, k, v, w_raw, self.time_faaaa, state.wkv_state)
        y = self.ln_x(y.reshape(B * T, C)).view(B, T, C)
        out = self.output(y * F.silu(self.gate(x_g)))
        return out, replace(state, wkv_state=wkv_state, time_shift_state=h[:, -1])


class FinchC2TimeMix(RecurrentTimeMix):
    """Finch-C2: k * (1 - w), a second value in place of the bonus, one layer norm, no gate (eq. 4-13)."""

    groups = ("r", "k", "v", "w", "v2")

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        C = config.d_model
        self.time_value2_w1, self.time_value2_w2 = lora_pair(C, VALUE2_LORA_RANK, C)
        self.ln_x = LayerNorm(C)

    def forward(self, h: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """h (B, T, C) -> out (B, T, C) and the layer's state after it."""
        config = self.config
        x_r, x_k, x_v, x_w, x_v2 = self.mixed(h, token_shift(h, state.time_shift_state))
        r, k, v, w_raw = self.receptance(x_r), self.key(x_k), self.value(x_v), self.raw_decay(x_w)
        if config.one_minus_w:
            # expm1 keeps 1 - w exact where the decay is next to 1.
            k = (k * -torch.expm1(-torch.exp(w_raw))).to(h.dtype)
        bonus = None if config.second_value else self.time_faaaa
        r, k, v, w_raw = self.heads(r, k, v, w_raw)
        y, wkv_state = wkv6(r, k, v, w_raw, bonus, state.wkv_state)
        y = y.flatten(-2)
        if config.second_value:
            y = y + self.value(x_v2) + torch.tanh(x_v2 @ self.time_value2_w1) @ self.time_value2_w2
        out = self.output(self.ln_x(y))
        return out, replace(state, wkv_state=wkv_state, time_shift_state=h[:, -1])
