"""Attention layers that keep full keys and values: GPTAlpha (GoldFinch section 3.6) and Llama.

Notation: B batch, T new tokens, P tokens before them, C d_model, H heads, D head dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from gfkernels import attend_expanded, causal_attention, merge_partials
from torch import Tensor, nn

from .config import SHIFT_LORA_RANK, ModelConfig
from .finch import data_dependent_mixes
from .layers import LayerNorm, PlainLinear, Rope, mix_vector, parameter, split_heads, token_shift
from .state import LayerState


class CachedAttention(nn.Module):
    """Causal attention over the keys and values in the layer's state (kept before rotary positions); no weights."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.rope = Rope(config.rope, config.head_dim) if config.rope else None

    def forward(self, q: Tensor, k: Tensor, v: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """q, k, v (B, T, C) of the new tokens -> attention output (B, T, C) and the grown state."""
        past = state.keys.length
        fresh = past == 0
        after = replace(state, keys=state.keys.append(k), values=state.values.append(v))
        # Without a past the rows themselves are used, so that gradients flow through them.
        k_h, v_h = self._keys(k if fresh else after.keys.rows, after), self._heads(v if fresh else after.values.rows)
        q_h = self.queries(q, state)
        if fresh:
            y = causal_attention(q_h, k_h, v_h)
        else:  # rows that are not held come before all that are asked for, so the places among those held suffice
            y = merge_partials(attend_expanded(q_h, k_h, v_h, q_start=past))[0].to(q.dtype)
        return y.transpose(1, 2).flatten(-2), after

    def queries(self, q: Tensor, state: LayerState) -> Tensor:
        """q (B, T, C) of the tokens behind a state -> (B, H, T, D), rotated where the model rotates."""
        heads = self._heads(q)
        return heads if self.rope is None else self.rope(heads, state.attended_length)

    def keys(self, state: LayerState) -> Tensor:
        """The keys that a state holds, (B, H, n, D), rotated to their positions in the sequence."""
        return self._keys(state.keys.rows, state)

    def _heads(self, rows: Tensor) -> Tensor:
        return split_heads(rows, self.head_dim).transpose(1, 2)

    def _keys(self, rows: Tensor, state: LayerState) -> Tensor:
        heads = self._heads(rows)
        if self.rope is None:
            return heads
        if state.rows is None and state.kept is None:
            return self.rope(heads, 0)
        return self.rope.at(heads, state.held_positions(turned=True))


@contextmanager
def watched(model: nn.Module) -> Iterator[list[tuple[CachedAttention, Tensor, Tensor]]]:
    """What the attention layers of a model attend with, while one pass over new tokens runs inside.

    Yields:
        a list that gets, per layer from the bottom, its attention, the queries (B, H, T, D) of the new tokens and the
        keys (B, H, n, D) of all rows held, theirs included, both rotated.
    """
    seen: list[tuple[CachedAttention, Tensor, Tensor]] = []

    def note(
        core: nn.Module, given: tuple[Tensor, Tensor, Tensor, LayerState], made: tuple[Tensor, LayerState]
    ) -> None:
        assert isinstance(core, CachedAttention)
        seen.append((core, core.queries(given[0], given[3]), core.keys(made[1])))

    hooks = [part.register_forward_hook(note) for part in model.modules() if isinstance(part, CachedAttention)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


class GPTAlphaTimeMix(nn.Module):
    """Attention with data-dependent token shift and layer norms on q, k, v and the output (eq. 26-29)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attend = CachedAttention(config)
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


class LlamaTimeMix(nn.Module):
    """Plain causal attention with rotary positions, no token shift."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attend = CachedAttention(config)
        C = config.d_model
        self.wq, self.wk, self.wv, self.wo = (PlainLinear(C, C) for _ in range(4))

    def forward(self, h: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """h (B, T, C) -> out (B, T, C) and the layer's state after it."""
        y, state = self.attend(self.wq(h), self.wk(h), self.wv(h), state)
        return self.wo(y), state
