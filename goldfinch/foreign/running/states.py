"""What the library's cache holds of a sequence, as plain tensors, and back, bit for bit.

Notation: T tokens so far, R rows kept, H key-value heads, D channels.

Rows may have been dropped of layers that keep all of them: as many of each head of each layer, perhaps others. What
follows has its true position all the same, T and on: the library is told positions, and masks by the rows there are.

Tensors taken out are never those that the library goes on writing to, and those put in are memory of the cache's own:
convolution and recurrent states are written in place, and windows are views that would keep a whole document alive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from goldfinch.errors import ModelRefused
from goldfinch.weights.foreign_config import LayerShape

# Attributes of the library's cache layers, by the role of the state that they hold.
_ROLES = {"conv": "conv_states", "recurrent": "recurrent_states"}


@dataclass(frozen=True)
class Held:
    """What one layer keeps.

    Attributes:
        keys, values: (H, R, D), as the library holds them (after rotary positions); None without attention.
        states: by role ("conv", "recurrent", "conv.1"), without the batch.
    """

    keys: Tensor | None = None
    values: Tensor | None = None
    states: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class SequenceState:
    """What all layers keep behind some tokens.

    Attributes:
        position: T.
        layers: one for each layer.
        dropped: rows that each head of a layer which keeps all rows has lost.
    """

    position: int
    layers: tuple[Held, ...]
    dropped: int = 0

    @property
    def rows(self) -> int:
        """Rows that each head of a layer which keeps all of them holds."""
        return self.position - self.dropped

    def without_rows(self, shapes: Sequence[LayerShape]) -> SequenceState:
        """The same without the keys and values of layers that keep all of them: a later state has these rows, too."""
        kept = [
            replace(held, keys=None, values=None) if shape.kind == "full" else held
            for held, shape in zip(self.layers, shapes, strict=True)
        ]
        return SequenceState(self.position, tuple(kept))

    def with_rows(self, shapes: Sequence[LayerShape], later: SequenceState) -> SequenceState:
        """The inverse: the rows of the first `position` tokens are those of a later state."""
        n, layers = self.position, []
        for held, shape, rows in zip(self.layers, shapes, later.layers, strict=True):
            if shape.kind == "full" and rows.keys is not None and rows.values is not None:
                held = replace(held, keys=rows.keys[:, :n], values=rows.values[:, :n])
            layers.append(held)
        return SequenceState(n, tuple(layers))

    def nothing_at(self, position: int) -> SequenceState:
        """What stands for a position of a model that can be cut anywhere (`can_cut`)."""
        return SequenceState(position, tuple(Held() for _ in self.layers))


def can_cut(shapes: Sequence[LayerShape]) -> bool:
    """Whether the beginning of a sequence can be gone on from without a state kept there."""
    return all(shape.kind in ("full", "none") and not shape.states for shape in shapes)


def taken_out(cache: Any, shapes: Sequence[LayerShape], position: int, dropped: int = 0) -> SequenceState:
    """What a cache holds.

    Args:
        cache: of the library (`library.new_cache`), after `position` tokens.
        shapes: what each layer must hold.
        dropped: rows that were not there when the cache was made.

    Raises:
        ModelRefused: a layer that holds something else.
    """
    layers = []
    for number, (layer, shape) in enumerate(zip(cache.layers, shapes, strict=True)):
        held = _held(layer, shape)
        _check(number, held, shape, position, dropped)
        layers.append(held)
    return SequenceState(position, tuple(layers), dropped)


def _held(layer: Any, shape: LayerShape) -> Held:
    keys = values = None
    if shape.kind in ("full", "sliding"):
        keys, values = layer.keys[0], layer.values[0]
        if shape.kind == "sliding" or not hasattr(layer, "slots"):
            keys, values = keys.clone(), values.clone()
    states = {}
    for role in shape.states:
        kind, index = _role(role)
        states[role] = getattr(layer, _ROLES[kind])[index][0].clone()
    return Held(keys, values, states)


def _role(role: str) -> tuple[str, int]:
    kind, _, index = role.partition(".")
    return kind, int(index or 0)


def _check(number: int, held: Held, shape: LayerShape, position: int, dropped: int) -> None:
    expected = dict(shape.states)
    found = {role: tuple(state.shape) for role, state in held.states.items()}
    if held.keys is not None and held.values is not None:
        rows = position - dropped if shape.kind == "full" else min((shape.window or 0) - 1, position)
        expected |= {"keys": (shape.kv_heads, rows, shape.head_dim), "values": (shape.kv_heads, rows, shape.value_dim)}
        found |= {"keys": tuple(held.keys.shape), "values": tuple(held.values.shape)}
    if found != expected:
        raise ModelRefused(f"layer {number} keeps {found} of {position} tokens, expected {expected}")


class _Slots:
    """Rows of a layer that keeps all of them, in memory taken beforehand: a token writes its own and copies none.

    It stands in for the layer's `update`, which joins all rows anew for each token.

    Args:
        layer: of the library's cache.
        capacity: rows to take memory for; it doubles when they are full.
    """

    def __init__(self, layer: Any, capacity: int) -> None:
        self._layer, self._capacity = layer, max(capacity, 1)
        self._pair: tuple[Tensor, Tensor] | None = None

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Take rows (1, H, N, D) in; all rows so far."""
        layer = self._layer
        if not layer.is_initialized:
            layer.lazy_initialization(keys, values)
        start = 0 if self._pair is None else layer.keys.shape[-2]
        end = start + keys.shape[-2]
        if self._pair is None or end > self._capacity:
            if self._pair is not None:
                self._capacity = max(end, 2 * self._capacity)
            self._capacity = max(end, self._capacity)
            self._pair = self._grown(keys, start), self._grown(values, start, of_values=True)
        layer.keys, layer.values = (buffer[:, :, :end] for buffer in self._pair)
        layer.keys[:, :, start:], layer.values[:, :, start:] = keys, values
        return layer.keys, layer.values

    def begin(self, sequences: Sequence[Held]) -> None:
        """Take in the rows of several sequences, B, each copied once; zeros follow those of the shorter ones."""
        pairs = [(held.keys, held.values) for held in sequences if held.keys is not None and held.values is not None]
        self._pair = self._beside([keys for keys, _ in pairs]), self._beside([values for _, values in pairs])
        layer, longest = self._layer, max(keys.shape[-2] for keys, _ in pairs)
        layer.lazy_initialization(*self._pair)
        layer.keys, layer.values = (buffer[:, :, :longest] for buffer in self._pair)

    def _beside(self, parts: Sequence[Tensor]) -> Tensor:
        heads, _, channels = parts[0].shape
        buffer = parts[0].new_empty(len(parts), heads, self._capacity, channels)
        for n, rows in enumerate(parts):
            buffer[n, :, : rows.shape[1]] = rows
            buffer[n, :, rows.shape[1] :] = 0.0  # a mask takes no part of them, but 0 times what is no number is none
        return buffer

    def keep(self, kept: Sequence[int]) -> None:
        """Go on with some of the sequences that the rows are of, named in their order: they move up."""
        assert self._pair is not None
        end = self._layer.keys.shape[-2]
        for buffer in self._pair:
            for place, n in enumerate(kept):
                if place != n:
                    buffer[place, :, :end] = buffer[n, :, :end]
        self._pair = self._pair[0][: len(kept)], self._pair[1][: len(kept)]
        self._layer.keys, self._layer.values = (buffer[:, :, :end] for buffer in self._pair)

    def _grown(self, like: Tensor, start: int, of_values: bool = False) -> Tensor:
        shape = (*like.shape[:2], self._capacity, like.shape[-1])
        buffer = torch.empty(shape, dtype=like.dtype, device=like.device)
        if start:
            buffer[:, :, :start] = self._layer.values if of_values else self._layer.keys
        return buffer


def put_in(
    new_cache: Callable[[], Any], shapes: Sequence[LayerShape], state: SequenceState | None, capacity: int
) -> Any:
    """A cache of the library that holds what was taken out, and takes more tokens without copying rows.

    Args:
        new_cache: makes an empty one.
        shapes: what each layer holds.
        state: nothing by default.
        capacity: tokens in all that are expected.
    """
    cache = new_cache()
    for number, (layer, shape) in enumerate(zip(cache.layers, shapes, strict=True)):
        if shape.kind == "full":
            layer.slots = _Slots(layer, capacity)
            layer.update = layer.slots.update
        if state is not None:
            _put(layer, shape, state.layers[number], state.position)
    return cache


def put_together(
    new_cache: Callable[[], Any], shapes: Sequence[LayerShape], states: Sequence[SequenceState], capacity: int
) -> Any:
    """A cache of the library that holds several sequences of a model that `can_cut`, the shorter ones padded behind.

    Args:
        new_cache, shapes: as of `put_in`.
        capacity: rows of each in all that are expected.
    """
    cache = new_cache()
    for number, (layer, shape) in enumerate(zip(cache.layers, shapes, strict=True)):
        if shape.kind == "full":
            layer.slots = _Slots(layer, capacity)
            layer.update = layer.slots.update
            layer.slots.begin([state.layers[number] for state in states])
    return cache


def _put(layer: Any, shape: LayerShape, held: Held, position: int) -> None:
    if held.keys is not None and held.values is not None:
        keys, values = (rows if rows.dim() == 4 else rows[None] for rows in (held.keys, held.values))
        if shape.kind == "full":
            layer.update(keys, values)
        else:
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values, layer.cumulative_length = keys.clone(), values.clone(), position
    for role, state in held.states.items():
        kind, index = _role(role)
        if kind == "conv":
            layer.lazy_initialization(conv_states=state[None], state_idx=index, conv_kernel_size=state.shape[-1])
            layer.has_previous_state[index] = True
        else:
            layer.lazy_initialization(recurrent_states=state[None], state_idx=index)
        getattr(layer, _ROLES[kind])[index].copy_(state[None])
