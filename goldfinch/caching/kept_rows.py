"""The rows of a cache that dropped others.

Notation: T document tokens, N rows that are stored, R width of compressed_k.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from gfcache.format.kept import stretches

if TYPE_CHECKING:
    from torch import Tensor

    from goldfinch.models.state import Ranges, Rows


class KeptRows:
    """compressed_k (1, T, R) of which some rows are there; a `state.Rows` that is asked for no others.

    Args:
        rows: (1, N, R), those that are stored.
        kept: the runs.
        tokens: T.
    """

    def __init__(self, rows: Rows, kept: Ranges, tokens: int) -> None:
        self._rows, stored = rows, stretches(kept)
        self._starts = [start for start, _ in stored]
        self._ends = [end for _, end in stored]
        self._before = [0, *accumulate(end - start for start, end in stored)]
        self.shape = (1, tokens, rows[:, :1].shape[-1])
        self.dtype, self.device = rows.dtype, rows.device

    def __getitem__(self, index: tuple[slice | int, slice]) -> Tensor:
        """[:, start:end] -> (1, n, R), [0, start:end] -> (n, R)."""
        sequence, tokens = index
        start, end, _ = tokens.indices(self.shape[1])
        part = bisect_right(self._starts, start) - 1
        if part < 0 or end > self._ends[part]:
            raise IndexError(f"rows {start} to {end}, of which some were dropped")
        at = self._before[part] + start - self._starts[part]
        found: Tensor = self._rows[sequence, at : at + end - start]
        return found


def common(one: Ranges, other: Ranges) -> Ranges:
    """The rows that are in both, ascending and apart."""
    found, n = list[tuple[int, int]](), 0
    for start, end in one:
        while n < len(other) and other[n][1] <= start:
            n += 1
        at = n
        while at < len(other) and other[at][0] < end:
            found.append((max(start, other[at][0]), min(end, other[at][1])))
            at += 1
    return tuple(found)


def rows_in(ranges: Sequence[tuple[int, int]]) -> int:
    """How many rows that is."""
    return sum(end - start for start, end in ranges)
