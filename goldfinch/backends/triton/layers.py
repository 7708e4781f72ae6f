"""The recurrent layers on a GPU with fused Triton kernels: the mathematics of finch.py and layers.py, no gradients.

Notation: T tokens, C d_model, H heads, D head dim, N documents. Rows of all documents stand behind each other, so there
is no batch axis here. Between two matrix products everything happens in float32 and in one pass; finch.py is the twin.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from goldfinch.backends.prepared import Prepared
from goldfinch.backends.vectors import BlockVectors
from goldfinch.models.finch import FinchC2TimeMix, FinchTimeMix
from goldfinch.models.layers import FinchChannelMix
from goldfinch.models.stack import Block, Stack
from goldfinch.models.state import LayerState


def run_layers(
    model: Stack,
    vectors: Sequence[Prepared[BlockVectors]],
    token_ids: Tensor,
    lengths: Sequence[int],
    states: Sequence[LayerState],
) -> tuple[Tensor, list[LayerState]]:
    """The lower layers over N documents behind each other in one row, without padding.

    Args:
        vectors: of each lower layer.
        token_ids: (1, sum(lengths)).
        lengths: tokens of each document, each at least 1.
        states: one per layer with the N documents along the batch axis, or empty ones.

    Returns:
        the residual stream (1, sum(lengths), C), and the states with batch N.
    """
    states, packing = list(states), packing_of(tuple(lengths), model.device)
    x = model.embed(token_ids)[0].contiguous()
    add: Tensor | None = None
    gate: Tensor | None = None
    for i in range(model.config.n_prefill):
        block: Block = model.blocks[i]  # type: ignore[assignment]
        add, gate, states[i] = _run_block(block, vectors[i].get(), x, add, gate, states[i], packing)
    if add is not None and gate is not None:
        _kernels().gate_add(x, gate, add)
    return x[None], states


class _Packing:
    """Where documents begin and end in a row of tokens."""

    def __init__(self, lengths: tuple[int, ...], device: torch.device) -> None:
        self.lengths = lengths
        self.starts: Tensor | None = None
        self.bounds: Tensor | None = None
        if len(self.lengths) > 1:
            self.bounds = torch.tensor([0, *self.lengths]).cumsum(0)
            starts = torch.full((sum(self.lengths),), -1, dtype=torch.int32)
            starts[self.bounds[:-1]] = torch.arange(len(self.lengths), dtype=torch.int32)
            self.starts = starts.to(device)
            self._last = (self.bounds[1:] - 1).to(device)

    def last_rows(self, h: Tensor) -> Tensor:
        """The last row of every document, (N, C), of h (T, C)."""
        return h[-1:].clone() if self.starts is None else h[self._last]


@functools.lru_cache(maxsize=8)
def packing_of(lengths: tuple[int, ...], device: torch.device) -> _Packing:
    """Kept, because answers that are decoded together take the same step again and again."""
    return _Packing(lengths, device)


def _kernels() -> Any:
    from gfkernels.layer import triton as layer_triton

    return layer_triton


def _run_block(
    block: Block,
    vectors: BlockVectors,
    x: Tensor,
    add: Tensor | None,
    gate: Tensor | None,
    state: LayerState,
    packing: _Packing,
) -> tuple[Tensor, Tensor, LayerState]:
    """One layer; what it adds at its end, sigmoid(gate) * add, is left to the next layer's norm."""
    ops = _kernels()
    mix, ffn = block.att, block.ffn
    assert isinstance(mix, FinchC2TimeMix | FinchTimeMix)
    assert isinstance(ffn, FinchChannelMix)
    h = ops.add_norm(x, add, *vectors.norms[0], block.ln1.eps, gate=gate)
    out, wkv_state = _time_mix(mix, vectors, h, state, packing)
    time_shift_state = packing.last_rows(h)
    h = ops.add_norm(x, out, *vectors.norms[1], block.ln2.eps)  # x += out
    before = _before(state.channel_shift_state, h)
    rows_k, rows_r = ops.shift_lerps(h, before, vectors.channel_mixes, packing.starts)
    k = ops.relu_squared(F.linear(rows_k, ffn.key.weight))
    gate = F.linear(rows_r, ffn.receptance.weight)
    state = replace(
        state,
        wkv_state=wkv_state,
        time_shift_state=time_shift_state,
        channel_shift_state=packing.last_rows(h),
    )
    return F.linear(k, ffn.value.weight), gate, state


def _before(shift_state: Tensor | None, h: Tensor) -> Tensor | None:
    return None if shift_state is None else shift_state.to(h.dtype).contiguous()


def _time_mix(
    mix: FinchC2TimeMix | FinchTimeMix, vectors: BlockVectors, h: Tensor, state: LayerState, packing: _Packing
) -> tuple[Tensor, Tensor]:
    """h (T, C) -> the time mix's output (T, C) and the next wkv_state (N, H, V, K)."""
    ops = _kernels()
    T, C = h.shape
    before = _before(state.time_shift_state, h)
    z = F.linear(ops.shift_lerps(h, before, vectors.mix_x[None], packing.starts)[0], vectors.mix_w1)
    mixed = ops.shift_ddlerp(h, before, vectors.mixes, z, vectors.mix_w2, packing.starts)
    r, k = F.linear(mixed[0], mix.receptance.weight), F.linear(mixed[1], mix.key.weight)
    w_low = F.linear(torch.tanh(F.linear(mixed[4], vectors.decay_w1)), vectors.decay_w2)
    is_c2 = isinstance(mix, FinchC2TimeMix)
    if is_c2 and mix.config.second_value:
        values = F.linear(mixed[2:4].reshape(2 * T, C), mix.value.weight)
        v, v2 = values[:T], values[T:]
    else:
        v, v2 = F.linear(mixed[2], mix.value.weight), None
    y, wkv_state = _wkv6(mix, vectors, (r, k, v, w_low), state.wkv_state, packing)
    if isinstance(mix, FinchC2TimeMix):
        low = None
        if v2 is not None:
            assert vectors.value2_w1 is not None
            assert vectors.value2_w2 is not None
            low = F.linear(torch.tanh(F.linear(mixed[3], vectors.value2_w1)), vectors.value2_w2)
        y = ops.add_norm(y, v2, *vectors.norms[2], mix.ln_x.eps, more=low, store_sum=False)
    else:
        y = mix.ln_x(y) * F.silu(F.linear(mixed[3], mix.gate.weight))
    return F.linear(y, mix.output.weight), wkv_state


def _wkv6(
    mix: FinchC2TimeMix | FinchTimeMix,
    vectors: BlockVectors,
    rows: tuple[Tensor, Tensor, Tensor, Tensor],
    wkv_state: Tensor | None,
    packing: _Packing,
) -> tuple[Tensor, Tensor]:
    """y (T, C) in the dtype of the rows, and the state after them."""
    from gfkernels.wkv import triton as wkv6_triton

    r, k, v, w_low = (x.view(1, x.shape[0], *vectors.decay.shape) for x in rows)
    scaled = isinstance(mix, FinchC2TimeMix) and mix.config.one_minus_w
    options: dict[str, Any] = {"decay": vectors.decay, "one_minus_w": scaled}
    if set(packing.lengths) == {1} and wkv_state is not None:
        r, k, v, w_low = (x.transpose(0, 1) for x in (r, k, v, w_low))
        y, wkv_state = wkv6_triton.wkv6_step_triton(r, k, v, w_low, vectors.bonus, wkv_state, **options)
    else:
        y, wkv_state = wkv6_triton.wkv6_triton(
            r, k, v, w_low, vectors.bonus, wkv_state, cu_seqlens=packing.bounds, **options
        )
    return y.view(rows[0].shape), wkv_state
