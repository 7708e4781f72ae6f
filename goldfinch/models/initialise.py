"""The values that training starts with: those of the published code, drawn from torch's global generator.

Notation: C d_model, L layers, l a layer from 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .attention import GPTAlphaTimeMix, LlamaTimeMix
from .config import ModelConfig
from .finch import FinchC2TimeMix, FinchTimeMix, RecurrentTimeMix
from .gold import GoldTimeMix
from .layers import Blank, FinchChannelMix, LlamaChannelMix
from .pointer import initialise_pointer
from .stack import Stack

# What a low-rank part, a product of two matrices of which the first is zero, starts from.
_LOW_RANK_RANGE = 0.01


@torch.no_grad()
def initialise(stack: Stack) -> None:
    """Fill all weights of a model.

    The order of the draws belongs to what a seed means, those included that are replaced at once.
    """
    config = stack.config
    stack.emb.as_torch_begins()
    for layer, block in enumerate(stack.blocks):
        for norm in block.modules():
            if isinstance(norm, nn.LayerNorm | nn.GroupNorm):
                _as_torch_begins(norm)
        for part in (block.att, block.ffn):
            _INITIAL_VALUES[type(part)](part, config, layer)
    _as_torch_begins(stack.ln_out, stack.head)
    if config.n_gold:
        _as_torch_begins(stack.w_kv_cache_a, stack.w_kv_cache_b)
        nn.init.orthogonal_(stack.w_kv_cache_a.weight)
        nn.init.orthogonal_(stack.w_kv_cache_b.weight)
    nn.init.uniform_(stack.emb.weight, -1e-4, 1e-4)
    nn.init.orthogonal_(stack.head.weight, gain=0.5)
    if config.pointer_width:
        initialise_pointer(stack.pointer)


def _as_torch_begins(*modules: nn.Module) -> None:
    for module in modules:
        assert isinstance(module, Blank)
        module.as_torch_begins()


def _low_rank(down: Tensor, up: Tensor) -> None:
    down.zero_()
    up.uniform_(-_LOW_RANK_RANGE, _LOW_RANK_RANGE)


def _ramp(config: ModelConfig, layer: int, power: float) -> Tensor:
    """Lerp weights (C,): 1 - (i / C) ** (power * (1 - l / L))."""
    ramp = torch.arange(config.d_model) / config.d_model
    return 1.0 - ramp.pow(power * (1.0 - layer / config.n_layer))


def _put(target: Tensor, values: Tensor) -> None:
    target.copy_(values.view(target.shape))


def _recurrent(mix: RecurrentTimeMix, config: ModelConfig, layer: int) -> None:
    C, depth = config.d_model, layer / max(config.n_layer - 1, 1)
    _put(mix.time_maa_x, _ramp(config, layer, 1.0))
    for group in mix.groups:
        values = _ramp(config, layer, 0.5 if group in ("r", "g") else 1.0)
        if group in ("v", "v2"):
            values = values + 0.3 * depth
        _put(getattr(mix, f"time_maa_{group}"), values)
    _low_rank(mix.time_maa_w1, mix.time_maa_w2)
    position = torch.arange(C) / max(C - 1, 1)
    _put(mix.time_decay, -6.0 + 5.0 * position.pow(0.7 + 1.3 * depth))
    _low_rank(mix.time_decay_w1, mix.time_decay_w2)
    zigzag = ((torch.arange(C) + 1) % 3 - 1) * 0.1
    _put(mix.time_faaaa, depth * (1 - position) + zigzag)
    _as_torch_begins(mix.receptance, mix.key, mix.value, mix.output)
    nn.init.orthogonal_(mix.receptance.weight, gain=1.0)
    nn.init.orthogonal_(mix.key.weight, gain=0.1)
    nn.init.orthogonal_(mix.value.weight, gain=1.0)
    mix.output.weight.zero_()


def _finch(mix: FinchTimeMix, config: ModelConfig, layer: int) -> None:
    _recurrent(mix, config, layer)
    _as_torch_begins(mix.gate)
    nn.init.orthogonal_(mix.gate.weight, gain=0.1)
    mix.ln_x.weight.fill_(((1 + layer) / config.n_layer) ** 0.7)


def _finch_c2(mix: FinchC2TimeMix, config: ModelConfig, layer: int) -> None:
    _recurrent(mix, config, layer)
    _low_rank(mix.time_value2_w1, mix.time_value2_w2)
    mix.ln_x.weight.fill_(((1 + layer) / config.n_layer) ** 0.7)


def _gold(mix: GoldTimeMix, config: ModelConfig, layer: int) -> None:
    for vector in (mix.time_maa_x, mix.time_maa_k, mix.time_maa_v, mix.time_maa_v_cache):
        _put(vector, _ramp(config, layer, 1.0))
    _put(mix.time_maa_q, _ramp(config, layer, 0.5))
    _low_rank(mix.time_maa_q_w1, mix.time_maa_q_w2)
    _low_rank(mix.time_maa_kv_w1, mix.time_maa_kv_w2)
    _low_rank(mix.time_key_w1, mix.time_key_w2)
    _low_rank(mix.time_value_w1, mix.time_value_w2)
    _as_torch_begins(mix.query, mix.output)
    nn.init.orthogonal_(mix.query.weight)
    mix.output.weight.zero_()


def _gptalpha(mix: GPTAlphaTimeMix, config: ModelConfig, layer: int) -> None:
    ramp = _ramp(config, layer, 1.0)
    _put(mix.time_maa_x, ramp)
    _put(mix.time_maa_r, _ramp(config, layer, 0.5))
    _put(mix.time_maa_k, ramp)
    _put(mix.time_maa_v, ramp + 0.3 * layer / max(config.n_layer - 1, 1))
    _low_rank(mix.time_maa_w1, mix.time_maa_w2)
    _as_torch_begins(mix.query, mix.key, mix.value, mix.output)
    mix.output.weight.zero_()


def _llama(mix: LlamaTimeMix, config: ModelConfig, layer: int) -> None:
    _as_torch_begins(mix.wq, mix.wk, mix.wv, mix.wo)
    mix.wo.weight.zero_()


def _finch_channels(mix: FinchChannelMix, config: ModelConfig, layer: int) -> None:
    _put(mix.time_maa_k, _ramp(config, layer, 1.0))
    _put(mix.time_maa_r, _ramp(config, layer, 1.0))
    _as_torch_begins(mix.key, mix.receptance, mix.value)
    nn.init.orthogonal_(mix.key.weight)
    mix.receptance.weight.zero_()
    mix.value.weight.zero_()


def _llama_channels(mix: LlamaChannelMix, config: ModelConfig, layer: int) -> None:
    _as_torch_begins(mix.w1, mix.w2, mix.w3)
    mix.w2.weight.zero_()


_INITIAL_VALUES: dict[type, Callable[[Any, ModelConfig, int], None]] = {
    FinchTimeMix: _finch,
    FinchC2TimeMix: _finch_c2,
    GoldTimeMix: _gold,
    GPTAlphaTimeMix: _gptalpha,
    LlamaTimeMix: _llama,
    FinchChannelMix: _finch_channels,
    LlamaChannelMix: _llama_channels,
}
