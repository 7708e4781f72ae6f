"""Where a model of others keeps its state on the way, so that a changed document is resumed."""

from __future__ import annotations

import math

from gfcache import layout

from goldfinch.engine.checkpoints import AUTO_SHARE, LIBRARY_BLOCKS, spaced_positions
from goldfinch.weights.foreign_config import ForeignConfig


def planned_positions(config: ForeignConfig, dtype: str, tokens: int, wanted: str | None) -> list[int]:
    """Positions of checkpoints; see `engine.checkpoints.plan_checkpoints`, and `library_checkpoints` for None.

    A model that keeps every row needs none: it resumes from any position. Nor has one any use of them whose documents
    are computed in one piece.
    """
    state_bytes = _state_bytes(config, dtype)
    if wanted == "none" or not state_bytes or config.schedule != "blocks":
        return []
    block = config.block_tokens
    if wanted not in (None, "auto"):
        return spaced_positions(tokens, str(wanted), block)
    last = (tokens - 1) // block * block
    room = AUTO_SHARE * tokens * row_bytes(config, dtype)
    positions, distance = list[int](), 0
    while (len(positions) + 1) * state_bytes <= room and last - distance > 0:
        positions.append(last - distance)
        distance = max(2 * distance, 2 * block)
    if wanted is None and last // block >= LIBRARY_BLOCKS:
        positions += [last // block // 2 * block, last]
    return sorted(set(positions))


def row_bytes(config: ForeignConfig, dtype: str) -> int:
    """Bytes of one token in a file, its id left out."""
    full = (layer for layer in config.layers if layer.kind == "full")
    return sum(layer.kv_heads * (layer.head_dim + layer.value_dim) for layer in full) * layout.DTYPES[dtype]


def _state_bytes(config: ForeignConfig, dtype: str) -> int:
    """Bytes of one checkpoint."""
    total = 0
    for layer in config.layers:
        if layer.kind == "sliding":
            rows = (layer.window or 1) - 1
            total += layer.kv_heads * rows * (layer.head_dim + layer.value_dim) * layout.DTYPES[dtype]
        total += sum(math.prod(s) * layout.DTYPES[layer.state_dtypes[role]] for role, s in layer.states.items())
    return total
