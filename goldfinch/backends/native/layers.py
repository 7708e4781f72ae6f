"""The recurrent layers on the CPU with fused C kernels: the mathematics of finch.py and layers.py, no gradients.

Notation: T tokens, C d_model, H heads, D head dim, F d_ffn. Batch is 1 and has no axis here. Between two matrix
products everything happens in float32 and in one pass; finch.py is the twin that the tests hold this against. Rows and
weights are torch's or numpy's (`gfkernels.arrays`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gfkernels import arrays
from gfkernels.layer import native
from gfkernels.layer.product import product as linear
from gfkernels.layer.product import times
from gfkernels.wkv.native import wkv6

from goldfinch.backends.vectors import BlockVectors, is_finch_c2
from goldfinch.models.state import LayerState

if TYPE_CHECKING:
    from torch import Tensor

    from goldfinch.backends.prepared import Prepared
    from goldfinch.models.stack import Block, Stack


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
    x = arrays.contiguous(model.embed(token_ids)[0])
    for i in range(model.config.n_prefill):
        block: Block = model.blocks[i]  # type: ignore[assignment]
        x, states[i] = _run_block(block, vectors[i].get(), x, states[i])
    return x[None], states


def _run_block(block: Block, vectors: BlockVectors, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
    mix: Any = block.att
    ffn: Any = block.ffn
    h = native.add_norm(x, None, *vectors.norms[0], block.ln1.eps)
    out, wkv_state = _time_mix(mix, vectors, h, state)
    time_shift_state = arrays.copied(h[-1:])
    h = native.add_norm(x, out, *vectors.norms[1], block.ln2.eps)  # x += out
    before = _before(state.channel_shift_state, h)
    k = native.relu_squared(linear(native.shift_lerp(h, before, vectors.channel_k), ffn.key.weight))
    gate = linear(native.shift_lerp(h, before, vectors.channel_r), ffn.receptance.weight)
    native.gate_add(x, gate, linear(k, ffn.value.weight))
    state = replace(
        state,
        wkv_state=wkv_state[None],
        time_shift_state=time_shift_state,
        channel_shift_state=arrays.copied(h[-1:]),
    )
    return x, state


def _time_mix(mix: Any, vectors: BlockVectors, h: Tensor, state: LayerState) -> tuple[Tensor, Tensor]:
    """h (T, C) -> the time mix's output (T, C) and the next wkv_state (H, V, K)."""
    T, C = h.shape
    H, D = vectors.decay.shape
    before = _before(state.time_shift_state, h)
    groups = vectors.mixes.shape[0]
    z = native.tanh(linear(native.shift_lerp(h, before, vectors.mix_x), vectors.mix_w1))  # (T, G * 32)
    dynamic = times(z.reshape(T, groups, -1).swapaxes(0, 1), vectors.mix_w2)  # (G, T, C)
    mixed = native.shift_ddlerp(h, before, vectors.mixes, dynamic)
    r, k = linear(mixed[0], mix.receptance.weight), linear(mixed[1], mix.key.weight)
    w_low = linear(native.tanh(linear(mixed[4], vectors.decay_w1)), vectors.decay_w2)
    is_c2 = is_finch_c2(mix)
    if is_c2 and mix.config.second_value:
        values = linear(mixed[2:4].reshape(2 * T, C), mix.value.weight)
        v, v2 = values[:T], values[T:]
    else:
        v, v2 = linear(mixed[2], mix.value.weight), None
    wkv_state = arrays.zeros((H, D, D), h, f32=True) if state.wkv_state is None else state.wkv_state[0]
    r, k, v, w_low = (a.reshape(T, H, D) for a in (r, k, v, w_low))
    y, wkv_state = wkv6(
        r, k, v, w_low, vectors.decay, vectors.bonus, wkv_state, times_one_minus_w=is_c2 and mix.config.one_minus_w
    )
    y = y.reshape(T, C)
    if is_c2:
        low = None
        if v2 is not None:
            assert vectors.value2_w1 is not None
            assert vectors.value2_w2 is not None
            low = linear(native.tanh(linear(mixed[3], vectors.value2_w1)), vectors.value2_w2)
        y = native.sum_norm(y, v2, low, *vectors.norms[2], mix.ln_x.eps, h)
    else:
        from torch.nn.functional import silu

        y = mix.ln_x(y.to(h.dtype)) * silu(linear(mixed[3], mix.gate.weight))
    return linear(y, mix.output.weight), wkv_state


def _before(state: Tensor | None, like: Tensor) -> Tensor | None:
    """The row before the first, (C,); None at the beginning."""
    return None if state is None else arrays.as_rows(state[0], like)
