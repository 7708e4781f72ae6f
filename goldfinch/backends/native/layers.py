"""The recurrent layers on the CPU with fused C kernels: the mathematics of finch.py and layers.py, no gradients.

Notation: T tokens, C d_model, H heads, D head dim, F d_ffn. Batch is 1 and has no axis here. Between two matrix
products everything happens in float32 and in one pass; finch.py is the twin that the tests hold this against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from gfkernels import linear
from gfkernels.layer import native
from gfkernels.wkv.native import wkv6
from torch import Tensor

from goldfinch.backends.prepared import BlockVectors, Prepared
from goldfinch.models.finch import FinchC2TimeMix, FinchTimeMix
from goldfinch.models.layers import FinchChannelMix
from goldfinch.models.stack import Block, Stack
from goldfinch.models.state import LayerState


def run_layers(
    model: Stack, vectors: Sequence[Prepared[BlockVectors]], token_ids: Tensor, states: Sequence[LayerState]
) -> tuple[Tensor, list[LayerState]]:
    """The lower layers over new tokens.

    Args:
        vectors: of each lower layer.
        token_ids: (1, T).
        states: one per layer of the model; those of the lower layers are replaced in the list that is returned.

    Returns:
        the residual stream (1, T, C) and the states.
    """
    states = list(states)
    x = model.embed(token_ids)[0].contiguous()
    for i in range(model.config.n_prefill):
        block: Block = model.blocks[i]  # type: ignore[assignment]
        x, states[i] = _run_block(block, vectors[i].get(), x, states[i])
    return x[None], states


def _run_block(block: Block, vectors: BlockVectors, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
    mix, ffn = block.att, block.ffn
    assert isinstance(mix, FinchC2TimeMix | FinchTimeMix)
    assert isinstance(ffn, FinchChannelMix)
    h = native.add_norm(x, None, *vectors.norms[0], block.ln1.eps)
    out, wkv_state = _time_mix(mix, vectors, h, state)
    time_shift_state = h[-1:].clone()
    h = native.add_norm(x, out, *vectors.norms[1], block.ln2.eps)  # x += out
    before = None if state.channel_shift_state is None else state.channel_shift_state[0].to(h.dtype).contiguous()
    k = native.relu_squared(linear(native.shift_lerp(h, before, vectors.channel_k), ffn.key.weight))
    gate = linear(native.shift_lerp(h, before, vectors.channel_r), ffn.receptance.weight)
    native.gate_add(x, gate, linear(k, ffn.value.weight))
    state = replace(
        state,
        wkv_state=wkv_state[None],
        time_shift_state=time_shift_state,
        channel_shift_state=h[-1:].clone(),
    )
    return x, state


def _time_mix(
    mix: FinchC2TimeMix | FinchTimeMix, vectors: BlockVectors, h: Tensor, state: LayerState
) -> tuple[Tensor, Tensor]:
    """h (T, C) -> the time mix's output (T, C) and the next wkv_state (H, V, K)."""
    T, C = h.shape
    H, D = vectors.decay.shape
    before = None if state.time_shift_state is None else state.time_shift_state[0].to(h.dtype).contiguous()
    groups = vectors.mixes.shape[0]
    z = native.tanh(linear(native.shift_lerp(h, before, vectors.mix_x), vectors.mix_w1))  # (T, G * 32)
    dynamic = torch.bmm(z.view(T, groups, -1).transpose(0, 1), vectors.mix_w2)  # (G, T, C)
    mixed = native.shift_ddlerp(h, before, vectors.mixes, dynamic)
    r, k = linear(mixed[0], mix.receptance.weight), linear(mixed[1], mix.key.weight)
    w_low = linear(native.tanh(linear(mixed[4], vectors.decay_w1)), vectors.decay_w2)
    is_c2 = isinstance(mix, FinchC2TimeMix)
    if is_c2 and mix.config.second_value:
        values = linear(mixed[2:4].reshape(2 * T, C), mix.value.weight)
        v, v2 = values[:T], values[T:]
    else:
        v, v2 = linear(mixed[2], mix.value.weight), None
    wkv_state = h.new_zeros(H, D, D, dtype=torch.float32) if state.wkv_state is None else state.wkv_state[0]
    r, k, v, w_low = (a.view(T, H, D) for a in (r, k, v, w_low))
    y, wkv_state = wkv6(
        r, k, v, w_low, vectors.decay, vectors.bonus, wkv_state, times_one_minus_w=is_c2 and mix.config.one_minus_w
    )
    y = y.view(T, C)
    if isinstance(mix, FinchC2TimeMix):
        low = None
        if v2 is not None:
            assert vectors.value2_w1 is not None
            assert vectors.value2_w2 is not None
            low = linear(native.tanh(linear(mixed[3], vectors.value2_w1)), vectors.value2_w2)
        y = native.sum_norm(y, v2, low, *vectors.norms[2], mix.ln_x.eps, h.dtype)
    else:
        y = mix.ln_x(y.to(h.dtype)) * F.silu(linear(mixed[3], mix.gate.weight))
    return linear(y, mix.output.weight), wkv_state
