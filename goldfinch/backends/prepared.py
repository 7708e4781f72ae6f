"""Weights laid out for kernels: made once, and made again when the weights have been written to or replaced.

Notation: C d_model, H heads, D head dim, G groups of mixed inputs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from goldfinch.models.finch import FinchC2TimeMix, FinchTimeMix
from goldfinch.models.layers import FinchChannelMix
from goldfinch.models.stack import Block

T = TypeVar("T")
_VERSION = operator.attrgetter("_version")


class Prepared(Generic[T]):
    """What was made of some parameters.

    Args:
        parameters: those that it depends on. Optimizers write to them in place, `.data =` gives them other memory.
        make: makes it.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], make: Callable[[], T]) -> None:
        self._parameters, self._make = list(parameters), make
        self._kept: tuple[object, T] | None = None

    def get(self) -> T:
        """It, as the parameters are now."""
        # Without a loop in Python: this runs for every token.
        key = tuple(map(Tensor.data_ptr, self._parameters)), tuple(map(_VERSION, self._parameters))
        if self._kept is None or self._kept[0] != key:
            self._kept = key, self._make()
        return self._kept[1]


@dataclass
class BlockVectors:
    """Parameter vectors of a block in float32 and its low-rank matrices transposed."""

    mix_x: Tensor  # (C,)
    mixes: Tensor  # (G, C), in the order of `mix_order`
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


def block_vectors(block: Block) -> BlockVectors:
    """The vectors of a recurrent block."""
    mix, ffn = block.att, block.ffn
    assert isinstance(mix, FinchC2TimeMix | FinchTimeMix)
    assert isinstance(ffn, FinchChannelMix)
    order = mix_order(mix)
    places = [mix.groups.index(group) for group in order]
    heads = (mix.config.n_head, mix.config.head_dim)
    has_bonus = isinstance(mix, FinchTimeMix) or not mix.config.second_value
    C, G = mix.time_maa_w1.shape[0], len(places)
    channel_mixes = torch.stack([f32(ffn.time_maa_k), f32(ffn.time_maa_r)])
    return BlockVectors(
        mix_x=f32(mix.time_maa_x),
        mixes=torch.stack([f32(getattr(mix, f"time_maa_{group}")) for group in order]),
        mix_w2=mix.time_maa_w2.detach()[places].contiguous(),
        mix_w1=_turned(mix.time_maa_w1.view(C, G, -1)[:, places].reshape(C, -1)),
        decay_w1=_turned(mix.time_decay_w1),
        decay_w2=_turned(mix.time_decay_w2),
        value2_w1=_turned(mix.time_value2_w1) if isinstance(mix, FinchC2TimeMix) else None,
        value2_w2=_turned(mix.time_value2_w2) if isinstance(mix, FinchC2TimeMix) else None,
        decay=f32(mix.time_decay).view(heads),
        bonus=f32(mix.time_faaaa).view(heads) if has_bonus else None,
        channel_k=channel_mixes[0],
        channel_r=channel_mixes[1],
        channel_mixes=channel_mixes,
        norms=tuple((f32(norm.weight), f32(norm.bias)) for norm in (block.ln1, block.ln2, mix.ln_x)),
    )


def mix_order(mix: FinchC2TimeMix | FinchTimeMix) -> tuple[str, ...]:
    """The mixed inputs in the order of the kernels: the two values are neighbours, so that one product serves both."""
    return ("r", "k", "v", "v2", "w") if isinstance(mix, FinchC2TimeMix) else ("r", "k", "v", "g", "w")


def f32(parameter: Tensor) -> Tensor:
    """A parameter as a vector in float32."""
    return parameter.detach().to(torch.float32).reshape(-1).contiguous()


def _turned(matrix: Tensor) -> Tensor:
    return matrix.detach().t().contiguous()
