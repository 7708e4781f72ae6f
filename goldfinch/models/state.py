"""The memory of a sequence: what a model needs to go on after the last token.

Notation: B batch, T tokens so far, C d_model, H heads, K key channels, V value channels.

States are values: a model call returns new ones and leaves those it was given as they are, so a caller may
keep one and go on from it several times.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


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
        if storage.used != self.length or end > storage.tensor.shape[1] or torch.is_grad_enabled():
            old = self.rows
            capacity = max(end, 2 * self.length, 64)
            tensor = old.new_empty(old.shape[0], capacity, *old.shape[2:])
            tensor[:, : self.length] = old
            storage = _Storage(tensor, self.length)
        storage.tensor[:, self.length : end] = rows
        storage.used = end
        return GrowingBuffer(storage, end)


@dataclass
class _Storage:
    tensor: Tensor
    used: int


@dataclass(frozen=True)
class LayerState:
    """Memory of one layer; fields a layer kind does not use stay None.

    Attributes:
        wkv_state: (B, H, V, K), float32 (float64 in float64): Finch layers.
        time_shift_state: (B, C), normed input of the time mix at the last token.
        channel_shift_state: (B, C), the same of the channel mix.
        keys, values: (B, T, C), before rotary positions: GPTAlpha and Llama layers.
    """

    wkv_state: Tensor | None = None
    time_shift_state: Tensor | None = None
    channel_shift_state: Tensor | None = None
    keys: GrowingBuffer = field(default_factory=GrowingBuffer)
    values: GrowingBuffer = field(default_factory=GrowingBuffer)


@dataclass(frozen=True)
class ModelState:
    """Memory of one sequence after `position` tokens.

    Attributes:
        layers: one LayerState per layer.
        position: tokens processed so far.
        gold: what all GOLD layers share (`gold.GoldMemory`), None for models without them.
    """

    layers: tuple[LayerState, ...]
    position: int = 0
    gold: object | None = None
