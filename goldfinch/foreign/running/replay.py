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


def compared(again: ForeignCache, rounded: ForeignCache, cache: ForeignCache, exact: bool) -> ReplayReport:
    """What differs between a document that was recomputed and its cache.

    Args:
        rounded: what was recomputed, its values rounded as those of the cache.
        exact: demand equality bit for bit.
    """
    if cache.blocks is not None and (again.blocks is None or again.blocks.token_ids != cache.blocks.token_ids):
        return ReplayReport(cache.length, 1, exact, "the blocks are not those of the document")
    triples = [
        *zip(again.checkpoints, rounded.checkpoints, cache.checkpoints, strict=True),
        (again.state, rounded.state, cache.state),
    ]
    blocks: Iterator[tuple[SequenceState, SequenceState, SequenceState]] = iter(())
    if cache.blocks is not None and again.blocks is not None:
        blocks = ((one, one, other) for one, other in _block_pairs(again.blocks, cache.blocks))
    difference = None
    for computed, as_coded, stored in chain(triples, blocks):
        for number, layers in enumerate(zip(computed.layers, as_coded.layers, stored.layers, strict=True)):
            parts = {"keys": [held.keys for held in layers], "values": [held.values for held in layers]}
            parts |= {f"{role} state": [held.states.get(role) for held in layers] for role in layers[2].states}
            for name, tensors in parts.items():
                found = [tensor for tensor in tensors if tensor is not None]
                if difference is None and len(found) == len(tensors) and _differs(*found, exact=exact):
                    difference = f"{name} of layer {number} differ before token {stored.position}"
    return ReplayReport(cache.length, 1, exact, difference)


def _block_pairs(again: Blocks, stored: Blocks) -> Iterator[tuple[SequenceState, SequenceState]]:
    """What two caches hold of each block, as states at the rows where the blocks end."""
    for number, end in enumerate(accumulate(map(len, stored.token_ids))):
        yield SequenceState(end, tuple(again.rows_of(number))), SequenceState(end, tuple(stored.rows_of(number)))


def _differs(computed: Tensor, rounded: Tensor, stored: Tensor, *, exact: bool) -> bool:
    if exact:
        return not bool((rounded == stored).all())
    # Computed a little differently, a value may be rounded the other way: by no more than any other one.
    most = ROUNDING[stored.dtype] * stored.abs().max().clamp_min(1e-6) + (rounded - computed).abs().max()
    return bool(((computed - stored).abs() > most).any())
