"""Replay: compute the tokens of a cache again and compare what every layer holds.

A document is one window, recomputed from its first token: what follows it rests on all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, chain

from torch import Tensor

from goldfinch.engine.base import ReplayReport, Start
from goldfinch.engine.replay import ROUNDING

from .blocks import Blocks
from .files import ForeignCache
from .states import SequenceState


def start_of(cache: ForeignCache) -> Start:
    """Where a prefill starts that is to leave what a cache holds: at the first token, with the same checkpoints."""
    return Start(checkpoints=tuple(state.position for state in cache.checkpoints))


def compared(again: ForeignCache, cache: ForeignCache, exact: bool) -> ReplayReport:
    """What differs between a document that was recomputed and its cache.

    Args:
        exact: demand equality bit for bit.
    """
    if cache.blocks is not None and (again.blocks is None or again.blocks.token_ids != cache.blocks.token_ids):
        return ReplayReport(cache.length, 1, exact, "the blocks are not those of the document")
    pairs = [*zip(again.checkpoints, cache.checkpoints, strict=True), (again.state, cache.state)]
    if cache.blocks is not None and again.blocks is not None:
        blocks = _block_pairs(again.blocks, cache.blocks)
    else:
        blocks = iter(())
    difference = None
    for computed, stored in chain(pairs, blocks):
        for number, (one, other) in enumerate(zip(computed.layers, stored.layers, strict=True)):
            parts = {"keys": (one.keys, other.keys), "values": (one.values, other.values)}
            parts |= {f"{role} state": (one.states.get(role), state) for role, state in other.states.items()}
            for name, (a, b) in parts.items():
                if difference is None and a is not None and b is not None and _differs(a, b, exact):
                    difference = f"{name} of layer {number} differ before token {stored.position}"
    return ReplayReport(cache.length, 1, exact, difference)


def _block_pairs(again: Blocks, stored: Blocks) -> Iterator[tuple[SequenceState, SequenceState]]:
    """What two caches hold of each block, as states at the rows where the blocks end."""
    for number, end in enumerate(accumulate(map(len, stored.token_ids))):
        yield SequenceState(end, tuple(again.rows_of(number))), SequenceState(end, tuple(stored.rows_of(number)))


def _differs(computed: Tensor, stored: Tensor, exact: bool) -> bool:
    if exact:
        return not bool((computed == stored).all())
    scale = stored.abs().max().clamp_min(1e-6)
    return bool(((computed - stored).abs() > ROUNDING[stored.dtype] * scale).any())
