"""GOLD attention (GoldFinch sections 3.2 to 3.4): attention whose keys and values are rebuilt from token ids
and a 16 times narrower compressed key that all GOLD layers share.

Notation: B batch, T tokens, C d_model, R = C / compression_ratio, H heads, D head dim.
e = LN(emb[token]); e_bar = rms(e); c = compressed_k; kappa = k_cache row (TokenCat output, paper eq. 15).

Keys and values of a token never depend on a GOLD layer's output. That is what makes prefill skip these
layers, and what lets a cache hold nothing but (token id, c) per token.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from .config import SHIFT_LORA_RANK, ModelConfig
from .layers import (
    LayerNorm,
    Linear,
    Rope,
    lora_pair,
    mix_vector,
    parameter,
    split_heads,
    token_shift,
)
from .state import LayerState, Memory


class GoldTimeMix(nn.Module):
    """One GOLD attention layer: queries from the stream, keys and values from the shared cache."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        C, rank = config.d_model, config.gold_lora_rank
        self.config = config
        self.time_maa_x = mix_vector(C)
        self.time_maa_q = mix_vector(C)
        self.time_maa_k = mix_vector(C)
        self.time_maa_v = mix_vector(C)
        self.time_maa_v_cache = mix_vector(C)
        self.time_maa_q_w1, self.time_maa_q_w2 = lora_pair(C, SHIFT_LORA_RANK, C)
        self.time_maa_kv_w1 = parameter(C, 2 * SHIFT_LORA_RANK)
        self.time_maa_kv_w2 = parameter(2, SHIFT_LORA_RANK, C)
        self.time_key_w1, self.time_key_w2 = lora_pair(C, rank, C)
        self.time_value_w1, self.time_value_w2 = lora_pair(C, rank, C)
        self.query = Linear(C, C)
        self.output = Linear(C, C)
        self.ln_q, self.ln_k, self.ln_v, self.ln_x = (LayerNorm(C) for _ in range(4))
        self.rope = Rope(config.rope, config.head_dim) if config.rope else None

    def keys_values(
        self, e_bar: Tensor, e_shift: Tensor, kappa: Tensor, kappa_shift: Tensor, start: int | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of this layer (paper eq. 18-20), keys already rotated.

        Args:
            e_bar, e_shift, kappa, kappa_shift: (B, T, C) and their token shifts.
            start: absolute position of the first row, (1,) where a graph is to read it.

        Returns:
            K and V, (B, T, C).
        """
        z = torch.tanh(torch.addcmul(e_bar, e_shift, self.time_maa_v_cache) @ self.time_maa_kv_w1)
        z_k, z_v = z.split(SHIFT_LORA_RANK, dim=-1)
        a = torch.addcmul(kappa, kappa_shift, self.time_maa_k + z_k @ self.time_maa_kv_w2[0])
        b = torch.addcmul(e_bar, e_shift, self.time_maa_v + z_v @ self.time_maa_kv_w2[1])
        k = self.ln_k(a + torch.tanh(a @ self.time_key_w1) @ self.time_key_w2)
        v = self.ln_v(b + torch.tanh(b @ self.time_value_w1) @ self.time_value_w2)
        if self.rope is not None:
            k = self.rope(self.heads(k), start).transpose(1, 2).flatten(-2)
        return k, v

    def heads(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, H, T, D), a view."""
        return split_heads(x, self.config.head_dim).transpose(1, 2)

    def forward(self, h: Tensor, state: LayerState, memory: Memory, index: int) -> tuple[Tensor, LayerState]:
        """Attend from the last rows of the sequence to all of it.

        Args:
            h: normed input of the last T positions that `memory` holds, (B, T, C).
            state: shift states before those rows.
            memory: keys and values of the whole sequence, these rows included.
            index: 0-based number of this layer among the GOLD layers.

        Returns:
            out (B, T, C) and the layer's state after it.
        """
        shift = token_shift(h, state.time_shift_state)
        low_rank = torch.tanh(torch.addcmul(h, shift, self.time_maa_x) @ self.time_maa_q_w1) @ self.time_maa_q_w2
        q = self.ln_q(self.query(torch.addcmul(h, shift, self.time_maa_q + low_rank)))
        q = self.heads(q)
        if self.rope is not None:
            q = self.rope(q, memory.length - h.shape[1])
        y = memory.attend(index, q)
        out = self.output(self.ln_x(y.transpose(1, 2).flatten(-2)))
        return out, replace(state, time_shift_state=h[:, -1])
