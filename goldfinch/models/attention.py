"""Attention layers that keep full keys and values: GPTAlpha (GoldFinch section 3.6) and Llama.

Notation: B batch, T new tokens, P tokens before them, C d_model, H heads, D head dim.
"""

from __future__ import annotations

from dataclasses import replace

from gfkernels import attend_expanded, causal_attention, merge_partials
from torch import Tensor, nn

from .config import ModelConfig
from .finch import data_dependent_mixes
from .layers import SHIFT_LORA_RANK, LayerNorm, PlainLinear, Rope, mix_vector, parameter, split_heads, token_shift
from .state import LayerState


class _CachedAttention(nn.Module):
    """Causal attention over the keys and values in the layer's state (kept before rotary positions)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.rope = Rope(config.rope, config.head_dim) if config.rope else None

    def attend(self, q: Tensor, k: Tensor, v: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """q, k, v (B, T, C) of the new tokens -> attention output (B, T, C) and the grown state."""
        past = state.keys.length
        fresh = past == 0
        keys, values = state.keys.append(k), state.values.append(v)
        # Without a past the rows themselves are used, so that gradients flow through them.
        all_k, all_v = (k, v) if fresh else (keys.rows, values.rows)
        q_h, k_h, v_h = (split_heads(x, self.config.head_dim).transpose(1, 2) for x in (q, all_k, all_v))
        if self.rope is not None:
            q_h, k_h = self.rope(q_h, past), self.rope(k_h, 0)
        if fresh:
            y = causal_attention(q_h, k_h, v_h)
        else:
            y = merge_partials(attend_expanded(q_h, k_h, v_h, q_start=past))[0].to(q.dtype)
        return y.transpose(1, 2).flatten(-2), replace(state, keys=keys, values=values)


class GPTAlphaTimeMix(_CachedAttention):
    """Attention with data-dependent token shift and layer norms on q, k, v and the output (eq. 26-29)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        C = config.d_model
        self.time_maa_x = mix_vector(C)
        self.time_maa_r = mix_vector(C)
        self.time_maa_k = mix_vector(C)
        self.time_maa_v = mix_vector(C)
        self.time_maa_w1 = parameter(C, 3 * SHIFT_LORA_RANK)
        self.time_maa_w2 = parameter(3, SHIFT_LORA_RANK, C)
        self.query, self.key, self.value, self.output = (PlainLinear(C, C) for _ in range(4))
        self.ln_r, self.ln_k, self.ln_v, self.ln_x = (LayerNorm(C) for _ in range(4))

    def forward(self, h: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """h (B, T, C) -> out (B, T, C) and the layer's state after it."""
        maas = [self.time_maa_r, self.time_maa_k, self.time_maa_v]
        shift = token_shift(h, state.time_shift_state)
        x_r, x_k, x_v = data_dependent_mixes(h, shift, self.time_maa_x, self.time_maa_w1, self.time_maa_w2, maas)
        q, k, v = self.ln_r(self.query(x_r)), self.ln_k(self.key(x_k)), self.ln_v(self.value(x_v))
        y, state = self.attend(q, k, v, state)
        return self.output(self.ln_x(y)), replace(state, time_shift_state=h[:, -1])


class LlamaTimeMix(_CachedAttention):
    """Plain causal attention with rotary positions, no token shift."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        C = config.d_model
        self.wq, self.wk, self.wv, self.wo = (PlainLinear(C, C) for _ in range(4))

    def forward(self, h: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """h (B, T, C) -> out (B, T, C) and the layer's state after it."""
        y, state = self.attend(self.wq(h), self.wk(h), self.wv(h), state)
        return self.wo(y), state
