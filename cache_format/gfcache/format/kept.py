"""Caches that keep some of their rows: which those are (SPEC 1.1, kept_positions).

Of compressed keys a row serves all heads of all layers, and what is kept are runs. Of keys and values each head of each
layer has rows of its own, and their positions are listed: (n, heads, N) of n layers, ascending along the last axis.

A run is (first token, past the last) of rows that questions read. A row is rebuilt with the one before it, so the
stretch that is stored for a run begins one row earlier, unless the run before it ends there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Runs = tuple[tuple[int, int], ...]


def stretches(runs: Sequence[tuple[int, int]]) -> Runs:
    """The rows that are stored for `runs`, ascending and apart: a stretch for each, its halo included."""
    ends = [0, *(end for _, end in runs)]
    return tuple((max(start - 1, before), end) for (start, end), before in zip(runs, ends[:-1], strict=True))


def tokens_stored(runs: Sequence[tuple[int, int]]) -> np.ndarray:
    """The tokens (n,) int64 whose rows are stored for `runs`."""
    return np.concatenate([np.arange(start, end) for start, end in stretches(runs)])


def wrong_runs(array: np.ndarray, tokens: int, tail: int, rows: int) -> tuple[str, str] | None:
    """What of a kept_positions section breaks R19, (found, expected), or None.

    Args:
        array: (n, 2), n at least 1.
        tokens: T.
        tail: rows of tail_hidden at T.
        rows: that compressed_k holds.
    """
    runs = array.astype(np.int64)
    starts, ends = runs[:, 0], runs[:, 1]
    if not (starts < ends).all() or not (starts[1:] > ends[:-1]).all() or ends[-1] != tokens:
        return "runs of rows that are empty, touch, or do not end with the document", "ascending runs that are apart"
    if starts[-1] > tokens - tail:
        return f"a last run from token {starts[-1]}", f"{tokens - tail} or less: those that questions run again"
    stored = int((ends - starts).sum() + len(runs) - (starts[0] == 0))
    if stored != rows:
        return f"runs of {stored} rows, with those before them", f"{rows}, those of compressed_k"
    return None


def wrong_positions(array: np.ndarray, tokens: int) -> tuple[str, str] | None:
    """What of a kept_positions section of keys and values breaks R19, (found, expected), or None.

    Args:
        array: (n, heads, N), N at least 1.
        tokens: T.
    """
    positions = array.astype(np.int64)
    if (np.diff(positions, axis=-1) <= 0).any() or positions.max(initial=0) >= tokens:
        return (
            "positions that do not ascend, or are none of the document",
            f"ascending ones below {tokens} of each head",
        )
    return None
