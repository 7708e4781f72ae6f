"""The recurrent layers on the CPU with fused C kernels: the mathematics of finch.py and layers.py, no gradients.

Notation: T tokens, C d_model, H heads, D head dim, F d_ffn. Batch is 1 and has no axis here. Between two matrix
products everything happens in float32 and in one pass; finch.py is the twin that the tests hold this against.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from gfkernels import linear
from gfkernels.layer import native
from gfkernels.native.build import unavailable
from gfkernels.wkv6.native import supports as wkv6_supports
from gfkernels.wkv6.native import wkv6
from torch import Tensor

from goldfinch.models.finch import FinchC2TimeMix, FinchTimeMix
from goldfinch.models.layers import FinchChannelMix
from goldfinch.models.state import LayerState

if TYPE_CHECKING:
    from goldfinch.models.language_model import Block, LanguageModel

# Order of the mixed inputs here: the two values are neighbours, so that one product serves both.
_C2_ORDER = ("r", "k", "v", "v2", "w")
_FINCH_ORDER = ("r", "k", "v", "g", "w")


@dataclass
class BlockVectors:
    """Parameter vectors of a block in float32 and its low-rank matrices transposed; made once per model."""

    mix_x: Tensor  # (C,)
    mixes: Tensor  # (G, C), in the order used here
    mix_w2: Tensor  # (G, 32, C), the same order
    mix_w1: Tensor  # (G * 32, C), the same order
    decay_w1: Tensor  # (64, C)
    decay_w2: Tensor  # (C, 64)
    value2_w1: Tensor | None  # (64, C)
    value2_w2: Tensor | None  # (C, 64)
    decay: Tensor  # (H, D)
    bonus: Tensor | None  # (H, D)
    channel_k: Tensor  # (C,)
    channel_r: Tensor
    channel_mixes: Tensor  # (2, C), both
    norms: tuple[tuple[Tensor, Tensor], ...]  # ln1, ln2, ln_x


def supports(model: LanguageModel) -> str | None:
    """None when this model's lower layers can run here, else the reason why not."""
    config = model.config
    if model.device.type != "cpu":
        return "the model is not on the CPU"
    if config.n_finch != config.n_prefill:
        return "the lower layers are not all recurrent"
    if not wkv6_supports(model.dtype, config.head_dim):
        return f"no kernels for {str(model.dtype).split('.')[1]} with heads of {config.head_dim}"
    if config.channel_mix != "finch":
        return "no kernels for this channel mix"
    return unavailable()


def run_layers(model: LanguageModel, token_ids: Tensor, states: list[LayerState]) -> tuple[Tensor, list[LayerState]]:
    """The lower layers over new tokens.

    Args:
        token_ids: (1, T).
        states: one per layer of the model; those of the lower layers are replaced in the list that is returned.

    Returns:
        the residual stream (1, T, C) and the states.
    """
    states = list(states)
    x = model.embed(token_ids)[0].contiguous()
    for i in range(model.config.n_prefill):
        block: Block = model.blocks[i]  # type: ignore[assignment]
        x, states[i] = _run_block(block, x, states[i])
    return x[None], states


def _run_block(block: Block, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
    vectors = block_vectors(block)
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


def block_vectors(block: Block) -> BlockVectors:
    """The vectors of a block, converted once: kept on it, and made again when the weights have been replaced."""
    key = (block.ln1.weight.data_ptr(), tuple(p._version for p in block.parameters()))
    kept = block.__dict__.get("_block_vectors")
    if kept is not None and kept[0] == key:
        return kept[1]
    mix, ffn = block.att, block.ffn
    assert isinstance(mix, FinchC2TimeMix | FinchTimeMix)
    assert isinstance(ffn, FinchChannelMix)
    order = _C2_ORDER if isinstance(mix, FinchC2TimeMix) else _FINCH_ORDER
    places = [mix.groups.index(group) for group in order]
    heads = (mix.config.n_head, mix.config.head_dim)
    has_bonus = isinstance(mix, FinchTimeMix) or not mix.config.second_value
    C, G = mix.time_maa_w1.shape[0], len(places)
    vectors = BlockVectors(
        mix_x=_f32(mix.time_maa_x).view(-1),
        mixes=torch.stack([_f32(getattr(mix, f"time_maa_{group}")).view(-1) for group in order]),
        mix_w2=mix.time_maa_w2.detach()[places].contiguous(),
        mix_w1=_turned(mix.time_maa_w1.view(C, G, -1)[:, places].reshape(C, -1)),
        decay_w1=_turned(mix.time_decay_w1),
        decay_w2=_turned(mix.time_decay_w2),
        value2_w1=_turned(mix.time_value2_w1) if isinstance(mix, FinchC2TimeMix) else None,
        value2_w2=_turned(mix.time_value2_w2) if isinstance(mix, FinchC2TimeMix) else None,
        decay=_f32(mix.time_decay).view(heads),
        bonus=_f32(mix.time_faaaa).view(heads) if has_bonus else None,
        channel_k=_f32(ffn.time_maa_k).view(-1),
        channel_r=_f32(ffn.time_maa_r).view(-1),
        channel_mixes=torch.stack([_f32(ffn.time_maa_k).view(-1), _f32(ffn.time_maa_r).view(-1)]),
        norms=tuple((_f32(norm.weight), _f32(norm.bias)) for norm in (block.ln1, block.ln2, mix.ln_x)),
    )
    block.__dict__["_block_vectors"] = (key, vectors)
    return vectors


def _f32(parameter: Tensor) -> Tensor:
    return parameter.detach().to(torch.float32).contiguous()


def _turned(matrix: Tensor) -> Tensor:
    return matrix.detach().t().contiguous()
