"""Weights laid out for kernels, of either library (`gfkernels.arrays`).

Notation: C d_model, H heads, D head dim, G groups of mixed inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gfkernels import arrays

if TYPE_CHECKING:
    from torch import Tensor

    from goldfinch.models.finch import RecurrentTimeMix
    from goldfinch.models.stack import Block


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
    mix: Any = block.att
    ffn: Any = block.ffn
    order, is_c2 = mix_order(mix), is_finch_c2(mix)
    places = [mix.groups.index(group) for group in order]
    heads = (mix.config.n_head, mix.config.head_dim)
    has_bonus = not is_c2 or not mix.config.second_value
    C, G = mix.time_maa_w1.shape[0], len(places)
    channel_mixes = arrays.stacked([f32(ffn.time_maa_k), f32(ffn.time_maa_r)])
    return BlockVectors(
        mix_x=f32(mix.time_maa_x),
        mixes=arrays.stacked([f32(getattr(mix, f"time_maa_{group}")) for group in order]),
        mix_w2=arrays.contiguous(arrays.detached(mix.time_maa_w2)[places]),
        mix_w1=_turned(mix.time_maa_w1.reshape(C, G, -1)[:, places].reshape(C, -1)),
        decay_w1=_turned(mix.time_decay_w1),
        decay_w2=_turned(mix.time_decay_w2),
        value2_w1=_turned(mix.time_value2_w1) if is_c2 else None,
        value2_w2=_turned(mix.time_value2_w2) if is_c2 else None,
        decay=f32(mix.time_decay).reshape(heads),
        bonus=f32(mix.time_faaaa).reshape(heads) if has_bonus else None,
        channel_k=channel_mixes[0],
        channel_r=channel_mixes[1],
        channel_mixes=channel_mixes,
        norms=tuple((f32(norm.weight), f32(norm.bias)) for norm in (block.ln1, block.ln2, mix.ln_x)),
    )


def is_finch_c2(mix: RecurrentTimeMix) -> bool:
    """Whether a recurrent time mix is that of Finch-C2, else Finch."""
    return "v2" in mix.groups


def mix_order(mix: RecurrentTimeMix) -> tuple[str, ...]:
    """The mixed inputs in the order of the kernels: the two values are neighbours, so that one product serves both."""
    return ("r", "k", "v", "v2", "w") if is_finch_c2(mix) else ("r", "k", "v", "g", "w")


def f32(parameter: Tensor) -> Tensor:
    """A parameter as a vector in float32."""
    return arrays.as_f32(parameter).reshape(-1)


def _turned(matrix: Tensor) -> Tensor:
    return arrays.contiguous(arrays.detached(matrix).T)
