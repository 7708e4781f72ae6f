"""The memory of a sequence: what a model needs to go on after the last token.

Its numbers are torch's or numpy's (`gfkernels.arrays`).

Notation: B batch, T tokens so far, C d_model, H heads, K key channels, V value channels.

States are values: a model call returns new ones and leaves those it was given as they are, so a caller may
keep one and resume from it several times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from gfkernels import arrays

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .running.pointing import Pointing


class GrowingBuffer:
    """Rows appended along axis 1 at amortised constant cost; a value to its holders.

    Several holders may share one storage. Appending writes behind this holder's own length when nobody else
    has written there yet, and copies otherwise, so no holder ever sees its rows change.
    """

    def __init__(self, storage: _Storage | None = None, length: int = 0) -> None:
        self._storage, self.length = storage, length

    @classmethod
    def of(cls, rows: Tensor) -> GrowingBuffer:
        """Take `rows` (B, T, ...) as they are."""
        return cls(_Storage(rows, rows.shape[1]), rows.shape[1])

    @property
    def rows(self) -> Tensor:
        """(B, length, ...), a view."""
        if self._storage is None:
            raise ValueError("an empty buffer has no dtype or shape yet")
        return self._storage.tensor[:, : self.length]

    def append(self, rows: Tensor) -> GrowingBuffer:
        """A buffer with `rows` (B, n, ...) behind the present ones."""
        if self._storage is None or self.length == 0:
            return GrowingBuffer.of(rows)
        end = self.length + rows.shape[1]
        storage = self._storage
        if storage.used != self.length or end > storage.tensor.shape[1] or arrays.records_gradients(rows):
            old = self.rows
            capacity = max(end, 2 * self.length, 64)
            tensor = arrays.empty((old.shape[0], capacity, *old.shape[2:]), old)
            tensor[:, : self.length] = old
            storage = _Storage(tensor, self.length)
        storage.tensor[:, self.length : end] = rows
        storage.used = end
        return GrowingBuffer(storage, end)


@dataclass
class _Storage:
    tensor: Tensor
    used: int


# A value, so one serves all.
EMPTY = GrowingBuffer()


# (start, end) of rows, ascending and apart.
Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class HeadRows:
    """The rows of a document that each head of an attention layer keeps, as many each.

    Attributes:
        positions: (H, N) int64, ascending in each head; of numpy, wherever the rows lie.
        length: T, tokens of the document.
        by_slot: keys are turned as if the rows stood next to each other before position T, which is StreamingLLM's
            place in the cache up to a shift that rotations do not see; else to the positions that they had.
    """

    positions: np.ndarray
    length: int
    by_slot: bool = False

    @property
    def count(self) -> int:
        """N."""
        return self.positions.shape[1]

    def turned(self) -> np.ndarray:
        """The positions that keys are turned to, (H, N) int64."""
        if not self.by_slot:
            return self.positions
        return np.broadcast_to(np.arange(self.length - self.count, self.length), self.positions.shape)

    def of(self, rows: Tensor) -> Tensor:
        """Of (1, T, C) what the heads keep, (1, N, C): each those of its own D channels."""
        H = len(self.positions)
        heads = rows[0].reshape(rows.shape[1], H, -1)  # (T, H, D)
        places = (self.positions.T, np.broadcast_to(np.arange(H), self.positions.T.shape))
        return heads[tuple(arrays.places_on(place.copy(), rows) for place in places)].reshape(1, self.count, -1)


# What has constant size in the memory of a layer.
STATE_FIELDS = ("wkv_state", "time_shift_state", "channel_shift_state")


@dataclass(frozen=True)
class LayerState:
    """Memory of one layer; fields a layer kind does not use stay None.

    Attributes:
        wkv_state: (B, H, V, K), float32 (float64 in float64): Finch layers.
        time_shift_state: (B, C), normed input of the time mix at the last token.
        channel_shift_state: (B, C), the same of the channel mix.
        keys, values: (B, T, C), before rotary positions: GPTAlpha and Llama layers.
        rows: the (start, end) of the document's rows that `keys` and `values` begin with, ascending and apart, the last
            token's among them; None where every row is held. This is how a reading policy reads less of a document.
        kept: what `keys` and `values` begin with in each head, where others of the document were dropped; then `rows`
            is None.
    """

    wkv_state: Tensor | None = None
    time_shift_state: Tensor | None = None
    channel_shift_state: Tensor | None = None
    keys: GrowingBuffer = EMPTY
    values: GrowingBuffer = EMPTY
    rows: Ranges | None = None
    kept: HeadRows | None = None

    @property
    def attended_length(self) -> int:
        """Tokens so far, as the attention of this layer counts them: also those whose rows are not held."""
        if self.kept is not None:
            return self.kept.length + self.keys.length - self.kept.count
        return self._held_rows()[-1][1]

    def held_positions(self, *, turned: bool = False) -> Tensor:
        """Where the rows that are held stand, (n,) int64, or (H, n) where each head has its own.

        Args:
            turned: the positions that their keys are turned to.
        """
        if self.kept is None:
            return arrays.positions(self._held_rows(), self.keys.rows)
        first = self.kept.turned() if turned else self.kept.positions
        own = np.broadcast_to(
            np.arange(self.kept.length, self.attended_length), (len(first), self.keys.length - self.kept.count)
        )
        return arrays.places_on(np.concatenate([first, own], axis=1), self.keys.rows)

    def _held_rows(self) -> Ranges:
        """The (start, end) of all rows that are held, which are those of all heads."""
        if self.rows is None:
            return ((0, self.keys.length),)
        end = self.rows[-1][1] + self.keys.length - sum(end - start for start, end in self.rows)
        return (*self.rows[:-1], (self.rows[-1][0], end))

    def holding(self, rows: Ranges) -> LayerState:
        """The state with these rows' keys and values alone; one of a layer that keeps none stays as it is."""
        if not self.keys.length:
            return self
        kept = [GrowingBuffer.of(arrays.joined([b.rows[:, a:z] for a, z in rows], 1)) for b in (self.keys, self.values)]
        return replace(self, keys=kept[0], values=kept[1], rows=rows)

    def keeping(self, kept: HeadRows) -> LayerState:
        """The state behind a document with the rows alone that its heads keep."""
        keys, values = (GrowingBuffer.of(kept.of(buffer.rows)) for buffer in (self.keys, self.values))
        return replace(self, keys=keys, values=values, kept=kept)

    def tensors(self) -> list[Tensor]:
        """Those of the states of constant size that are there, in the order of STATE_FIELDS."""
        return [value for value in (getattr(self, name) for name in STATE_FIELDS) if value is not None]

    def map(self, change: Callable[[Tensor], Tensor]) -> LayerState:
        """The state with `change` made to each tensor of constant size; keys and values stay."""
        present = {name: getattr(self, name) for name in STATE_FIELDS}
        changed: dict[str, Any] = {name: change(value) for name, value in present.items() if value is not None}
        return replace(self, **changed)

    def select(self, rows: Tensor | slice) -> LayerState:
        """The state of some of the sequences of a batch."""
        return self.map(lambda value: value[rows])

    @classmethod
    def stack(cls, states: Sequence[LayerState]) -> LayerState:
        """Sequences side by side along the batch axis; for layers that keep no keys and values."""
        columns = {name: [getattr(state, name) for state in states] for name in STATE_FIELDS}
        stacked: dict[str, Any] = {n: arrays.joined(values) for n, values in columns.items() if values[0] is not None}
        return cls(**stacked)


class Memory(Protocol):
    """What the GOLD layers attend to: keys and values of a sequence, or of as much of it as is read."""

    @property
    def length(self) -> int | Tensor:
        """Positions of the sequence, those that are not held included; (1,) int64 where a graph is to read it."""

    def attend(self, index: int, q: Tensor) -> Tensor:
        """Attention of the last Tq positions over what is held.

        Args:
            index: 0-based number of the layer among the GOLD layers.
            q: (B, H, Tq, D), rotated where the model rotates.

        Returns:
            (B, H, Tq, D) in the dtype of q.
        """


@dataclass(frozen=True)
class ModelState:
    """Memory of one sequence after `position` tokens.

    Attributes:
        layers: one LayerState per layer.
        position: tokens processed so far.
        memory: what all GOLD layers attend to; None before the first token, and in models without them.
        pointing: what an answer may be copied from, behind a question of a model with a pointer; else None.
    """

    layers: tuple[LayerState, ...]
    position: int = 0
    memory: Memory | None = None
    pointing: Pointing | None = None

    def holding(self, rows: Ranges) -> ModelState:
        """The state whose attention layers hold these rows of a document alone."""
        return replace(self, layers=tuple(layer.holding(rows) for layer in self.layers))


class Rows(Protocol):
    """compressed_k (1, T, R) that is taken in ranges: a tensor, or what reads them when they are asked for."""

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...

    def __getitem__(self, index: Any) -> Tensor:
        """[:, start:end] -> (1, n, R), [0, start:end] -> (n, R)."""


@dataclass(frozen=True, eq=False)
class GoldDocument:
    """The part of a GOLD memory that came from a cache file: shared, never changed.

    Attributes:
        token_ids: (1, T) int64.
        compressed_k: (1, T, R) in the compute dtype; `Rows`, for ranges of it are enough.
        expanded: per GOLD layer (K, V), each (1, n, C), or None: then both are rebuilt block by block at
            every use and nothing is kept.
        rows: the (start, end) of the rows that are there, ascending and apart, in `expanded` where that is; None for
            all of them. Queries see no others: this is how a reading policy reads less of a document, and what is left
            of one whose rows were dropped. Of the rows before each of them, `compressed_k` is there, too.
        slots: the rows that a policy left, where keys are turned as if these stood next to each other at the
            document's end (`HeadRows.by_slot`); else None.
    """

    token_ids: Tensor
    compressed_k: Tensor | Rows
    expanded: tuple[tuple[Tensor, Tensor], ...] | None = None
    rows: Ranges | None = None
    slots: Ranges | None = None

    @property
    def length(self) -> int:
        """T, whatever is held."""
        return self.token_ids.shape[1]

    @property
    def ranges(self) -> Ranges:
        """The rows that are there."""
        return ((0, self.length),) if self.rows is None else self.rows

    def turned_to(self, position: int) -> int:
        """The position that the key of a row which is there is turned to; those behind it in its range follow."""
        if self.slots is None:
            return position
        return self.length - sum(end - max(start, position) for start, end in self.slots if end > position)

    def row_before(self, position: int) -> tuple[Tensor, Tensor] | None:
        """(token id (1, 1), compressed_k (1, 1, R)) of the row before a position, None at the beginning."""
        if position == 0:
            return None
        return self.token_ids[:, position - 1 : position], self.compressed_k[:, position - 1 : position]

    def pieces(self, q_start: int) -> Iterator[tuple[slice, int]]:
        """The rows of `expanded` as attention takes them, for queries from position `q_start` on.

        Yields:
            rows of `expanded`, and the position that the first of them counts as: theirs, or, in a piece that
            all queries see whole, any that they see.
        """
        if self.rows is None:
            yield slice(None), 0
            return
        held = seen = 0
        later = []
        for start, end in self.rows:
            middle = min(max(q_start + 1, start), end)  # all queries see the rows before it
            seen += middle - start
            if middle < end:
                later.append((slice(held + middle - start, held + end - start), middle))
            held += end - start
        if seen:
            yield slice(0, seen), 0
        yield from later

    def positions(self) -> Tensor:
        """(n,) the positions of the rows that are held, or would be."""
        return arrays.positions(self.ranges, self.token_ids)
