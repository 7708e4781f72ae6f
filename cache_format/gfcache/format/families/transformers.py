"""Models of others: attention that keeps its keys and values, sliding windows, recurrent and convolution states.

What each layer keeps stands in `model.layers` of the header (SPEC, "Models of others"), so that files are checked and
planned without the library that ran the model. Layers that keep arrays of one shape are stacked in one section.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, zip_longest
from typing import Any

from gfcache import layout

from .base import Family, Group, Place, SectionKind, Stands, fixed, in_token_dtype, on_model, optional

# What the attention of a layer keeps of the tokens before; a layer of any of these may have states, too.
FULL, SLIDING, LINEAR, NONE = "full", "sliding", "linear", "none"
LAYER_KINDS = (FULL, SLIDING, LINEAR, NONE)
MOST_LAYERS, MOST_STATES, MOST_STATE_AXES = 4096, 16, 4
# Of rotary positions: pairs of channels, and the angle of each from one position to the next.
MOST_PAIRS, MOST_ANGLE = 4096, 8.0
_MOST = 1 << 31
_ROLE = re.compile(r"[a-z][a-z_]{0,31}(\.[1-9][0-9]?)?")


@dataclass(frozen=True)
class Layer:
    """A layer, as `model.layers` has it.

    Attributes:
        kind: one of LAYER_KINDS.
        kv_heads, head_dim, value_dim: of keys (kv_heads, rows, head_dim) and values (kv_heads, rows, value_dim).
        window: tokens that a query of a sliding layer sees, itself among them.
        states: (shape, dtype) by role.
    """

    kind: str
    kv_heads: int
    head_dim: int
    value_dim: int
    window: int
    states: Mapping[str, tuple[tuple[int, ...], str]]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Layer:
        """Of a row as rule R7 leaves it."""
        states = {role: (tuple(s["shape"]), s["dtype"]) for role, s in row.get("states", {}).items()}
        heads, head_dim, value_dim = (row.get(name, 0) for name in ("kv_heads", "head_dim", "value_dim"))
        return cls(row["kind"], heads, head_dim, value_dim, row.get("window") or 0, states)

    def likeness(self, role: str | None = None) -> tuple[Any, ...]:
        """What layers of one section share: keys and values, or the state of a role."""
        if role is not None:
            return self.states[role]
        return self.kind, self.kv_heads, self.head_dim, self.value_dim, self.window


@dataclass(frozen=True)
class Dimensions:
    """The numbers of a model that sections follow from.

    Attributes:
        vocab_size: as in the configuration.
        layers: all of them.
        blocks: rows of each block of a document that is kept in blocks, that of the prompt first; () for a whole one.
        lent: for each of them the number of the lender that holds it, 0 where the file itself does; () where it holds
            all.
    """

    vocab_size: int
    layers: tuple[Layer, ...]
    blocks: tuple[int, ...] = ()
    lent: tuple[int, ...] = ()

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> Dimensions:
        """Of a header's `model` as rule R7 leaves it."""
        layers, blocks, lent = (tuple(model.get(name) or ()) for name in ("layers", "blocks", "lent"))
        return cls(model["config"]["vocab_size"], tuple(map(Layer.of, layers)), blocks, lent)

    @cached_property
    def members(self) -> dict[Group, list[int]]:
        """The layers that the sections of each group hold, in their order; a group is named after the first."""
        alike: dict[tuple[Any, ...], list[int]] = {}
        for n, layer in enumerate(self.layers):
            for role in (*([None] if layer.kind in (FULL, SLIDING) else []), *layer.states):
                alike.setdefault((role, layer.likeness(role)), []).append(n)
        return {Group(layers[0], role): layers for (role, _), layers in alike.items()}

    @cached_property
    def full(self) -> tuple[Group, ...]:
        """Groups of layers that keep all keys and values of a whole document."""
        return () if self.blocks else self._of_kind(FULL)

    @cached_property
    def sliding(self) -> tuple[Group, ...]:
        """Groups of layers that keep those of a window of a whole document."""
        return () if self.blocks else self._of_kind(SLIDING)

    @cached_property
    def in_blocks(self) -> tuple[Group, ...]:
        """Groups of layers that keep keys and values of blocks, all of them, whatever their window."""
        return tuple(group for group in self.members if group.role is None) if self.blocks else ()

    @cached_property
    def rows_at(self) -> dict[int, int]:
        """Rows of each block by where it begins, counted in rows of the blocks before."""
        ends = tuple(accumulate(self.blocks))
        return {end - rows: rows for end, rows in zip(ends, self.blocks, strict=True)}

    @cached_property
    def own_starts(self) -> tuple[int, ...]:
        """Where the blocks begin that the file itself holds."""
        return tuple(start for start, lender in zip_longest(self.rows_at, self.lent, fillvalue=0) if not lender)

    @cached_property
    def stateful(self) -> tuple[Group, ...]:
        """Groups of layers that keep a state of a whole document, by role."""
        return () if self.blocks else tuple(group for group in self.members if group.role is not None)

    @cached_property
    def stateful_in_blocks(self) -> tuple[Group, ...]:
        """Groups of layers that keep a state behind each block, by role."""
        return tuple(group for group in self.members if group.role is not None) if self.blocks else ()

    def _of_kind(self, kind: str) -> tuple[Group, ...]:
        groups = (group for group in self.members if group.role is None)
        return tuple(group for group in groups if self.layers[group.layer or 0].kind == kind)

    def layers_at(self, place: Place) -> list[int]:
        """The layers that a section holds; none where there is no such group."""
        return self.members.get(Group(place.layer, place.role), [])


def _rows_of(
    part: str, rows: Callable[[Dimensions, Layer, Place], int]
) -> Callable[[Dimensions, Place], tuple[int, ...]]:
    """The shape of keys ("head_dim") or values ("value_dim"): layers x kv_heads x rows x channels."""

    def shape(model: Dimensions, place: Place) -> tuple[int, ...]:
        layers = model.layers_at(place)
        if not layers:
            return (0, 0, 0, 0)  # no such group: R13 names it
        layer = model.layers[layers[0]]
        return len(layers), layer.kv_heads, rows(model, layer, place), getattr(layer, part)

    return shape


def _range_rows(model: Dimensions, layer: Layer, place: Place) -> int:
    return place.rows(layout.RANGE_TOKENS)


def window_rows(window: int, position: int) -> int:
    """Rows that a sliding layer keeps of `position` tokens: the next query sees window - 1 of them, and itself."""
    return min(window - 1, position)


def _kept_shape(model: Dimensions, place: Place) -> tuple[int, ...]:
    layers = model.layers_at(place)
    return (len(layers), model.layers[layers[0]].kv_heads, place.kept or 0) if layers else (0, 0, 0)


def _window_rows(model: Dimensions, layer: Layer, place: Place) -> int:
    return window_rows(layer.window, place.position or place.tokens)


def _block_rows(model: Dimensions, layer: Layer, place: Place) -> int:
    return model.rows_at.get(place.token_start or 0, 0)


def _state_shape(model: Dimensions, place: Place) -> tuple[int, ...]:
    layers = model.layers_at(place)
    return (len(layers), *model.layers[layers[0]].states[str(place.role)][0]) if layers else (0,)


def _state_dtypes(model: Dimensions, compute_dtype: str | None, place: Place) -> tuple[str, ...]:
    layers = model.layers_at(place)
    return (model.layers[layers[0]].states[str(place.role)][1],) if layers else layout.FLOAT_DTYPES


def block_state_bytes(model: Mapping[str, Any]) -> int:
    """Bytes of the states behind one block, of a header's `model` that has blocks."""
    dimensions = Dimensions.of(model)
    states = (state for group in dimensions.stateful_in_blocks for state in _states_of(dimensions, group))
    return sum(math.prod(shape) * layout.DTYPES[dtype] for shape, dtype in states)


def _states_of(model: Dimensions, group: Group) -> list[tuple[tuple[int, ...], str]]:
    return [model.layers[n].states[str(group.role)] for n in model.members[group]]


def _of_ranges(kind: str, part: str, **more: Any) -> SectionKind:
    return SectionKind(
        kind, Stands.CHUNKS, _rows_of(part, _range_rows), depends_on=on_model, per_token=True, row_axis=2,
        present=lambda model: bool(model.full), groups=lambda model: model.full,
        chunk_tokens=layout.RANGE_TOKENS, **more,
    )  # fmt: skip


def _of_windows(kind: str, part: str, **more: Any) -> SectionKind:
    return SectionKind(
        kind, Stands.STATE, _rows_of(part, _window_rows), depends_on=on_model,
        present=lambda model: bool(model.sliding), groups=lambda model: model.sliding, **more,
    )  # fmt: skip


def _of_blocks(kind: str, part: str, **more: Any) -> SectionKind:
    return SectionKind(
        kind, Stands.BLOCKS, _rows_of(part, _block_rows), depends_on=on_model, per_token=True, row_axis=2,
        present=lambda model: bool(model.blocks), groups=lambda model: model.in_blocks,
        starts=lambda model: model.own_starts, **more,
    )  # fmt: skip


_KINDS = (
    # Before all others: a reader that does not know it refuses the file by this name.
    SectionKind(
        layout.KEPT_POSITIONS,
        Stands.KEPT,
        _kept_shape,
        fixed("u32"),
        depends_on=on_model,
        present=lambda model: bool(model.full),
        groups=lambda model: model.full,
        per_token=True,
        codec="zstd",
    ),
    SectionKind(
        layout.TOKEN_IDS,
        Stands.OWN_TOKENS,
        lambda model, place: (place.tokens - place.first_token,),
        in_token_dtype,
        per_token=True,
        codec="zstd",
    ),
    _of_ranges(layout.KV_KEYS, "head_dim", rotated=True),
    _of_ranges(layout.KV_VALUES, "value_dim"),
    _of_windows(layout.WINDOW_KEYS, "head_dim", rotated=True),
    _of_windows(layout.WINDOW_VALUES, "value_dim"),
    SectionKind(
        layout.BLOCK_TOKEN_IDS,
        Stands.OWN_TOKENS,
        lambda model, place: (sum(model.blocks),),
        in_token_dtype,
        present=lambda model: bool(model.blocks),
        per_token=True,
    ),
    SectionKind(
        layout.BLOCK_PLACES,
        Stands.OWN_TOKENS,
        lambda model, place: (len(model.blocks), 4),
        fixed("u32"),
        present=lambda model: bool(model.blocks),
        per_token=True,
    ),
    _of_blocks(layout.BLOCK_KEYS, "head_dim", rotated=True),
    _of_blocks(layout.BLOCK_VALUES, "value_dim"),
    SectionKind(
        layout.LAYER_STATE,
        Stands.STATE,
        _state_shape,
        _state_dtypes,
        depends_on=on_model,
        present=lambda model: bool(model.stateful),
        groups=lambda model: model.stateful,
    ),
    SectionKind(
        layout.BLOCK_STATE,
        Stands.BLOCKS,
        _state_shape,
        _state_dtypes,
        depends_on=on_model,
        per_token=True,
        present=lambda model: bool(model.stateful_in_blocks),
        groups=lambda model: model.stateful_in_blocks,
        starts=lambda model: model.own_starts,
    ),
    optional(layout.ERROR_RECEIPT, *layout.FLOAT_DTYPES, depends_on=on_model),
    optional(layout.SOURCE_TEXT, "u8", per_token=True),
    optional(layout.DOCUMENT_INDEX, "u8", per_token=True, codec="zstd"),
)


def _check(model: Mapping[str, Any]) -> tuple[str, str] | None:
    """What of `model.layers` breaks R7: (found, expected), or None."""
    layers, n_layer = model["layers"], model["config"]["n_layer"]
    if not isinstance(layers, list) or len(layers) != n_layer or n_layer > MOST_LAYERS:
        return f"model.layers of {n_layer} layers", f"a list of as many, at most {MOST_LAYERS}"
    for n, row in enumerate(layers):
        problem = _check_layer(row)
        if problem is not None:
            return f"model.layers[{n}] {problem[0]}", problem[1]
    if not any(row["kind"] in (FULL, SLIDING) or row.get("states") for row in layers):
        return "model.layers without any that keeps something", "one at least"
    rotary = model.get("rotary")
    holds = rotary is None or (isinstance(rotary, list) and 0 < len(rotary) <= MOST_PAIRS)
    if not holds or not all(isinstance(one, float) and abs(one) <= MOST_ANGLE for one in rotary or ()):
        return f"model.rotary {rotary!r:.60}", f"1 to {MOST_PAIRS} numbers of at most {MOST_ANGLE:g}"
    if model.get("blocks") is None:
        return ("model.lent without model.blocks", "neither or both") if model.get("lent") is not None else None
    return _check_blocks(model["blocks"]) or _check_lent(model.get("lent"), len(model["blocks"]))


def _check_lent(lent: Any, blocks: int) -> tuple[str, str] | None:
    holds = lent is None or (isinstance(lent, list) and len(lent) == blocks)
    if not holds or not all(_is_count(n, 0) and n <= layout.MAX_LENDERS for n in lent or ()):
        return f"model.lent {lent!r:.60}", f"{blocks} counts up to {layout.MAX_LENDERS}"
    return None


def _check_blocks(blocks: Any) -> tuple[str, str] | None:
    counts = isinstance(blocks, list) and 0 < len(blocks) <= layout.MAX_SECTIONS
    if not counts or not all(_is_count(rows, 1) for rows in blocks) or sum(blocks) > layout.MAX_TOKENS:
        return f"model.blocks {blocks!r:.60}", f"1 to {layout.MAX_SECTIONS:,} counts from 1"
    return None


def _check_layer(row: Any) -> tuple[str, str] | None:
    if not isinstance(row, dict) or row.get("kind") not in LAYER_KINDS:
        return f"{row!r:.60}", f"an object whose kind is {', '.join(LAYER_KINDS)}"
    needed = {FULL: 1, SLIDING: 1}.get(row["kind"], 0)
    for name in ("kv_heads", "head_dim", "value_dim"):
        if not _is_count(row.get(name, 0), needed):
            return f"{name} {row.get(name)!r:.40}", f"{needed} to {_MOST}"
    if row["kind"] == SLIDING and not _is_count(row.get("window"), 2):
        return f"window {row.get('window')!r:.40}", f"2 to {_MOST}"
    states = row.get("states", {})
    if not isinstance(states, dict) or len(states) > MOST_STATES:
        return "states", f"an object of at most {MOST_STATES}"
    for role, state in states.items():
        if not _ROLE.fullmatch(role) or not isinstance(state, dict):
            return f"state {role!r:.40}", "a role (as conv, recurrent or conv.1) with shape and dtype"
        shape = state.get("shape")
        axes = shape if isinstance(shape, list) else []
        if not 1 <= len(axes) <= MOST_STATE_AXES or not all(_is_count(n, 1) for n in axes):
            return f"state {role} of shape {shape!r:.60}", f"1 to {MOST_STATE_AXES} counts from 1"
        if state.get("dtype") not in layout.FLOAT_DTYPES:
            return f"state {role} in {state.get('dtype')!r:.20}", ", ".join(layout.FLOAT_DTYPES)
    return None


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _MOST


TRANSFORMERS = Family("transformers", lambda model: "layers" in model, Dimensions.of, _KINDS, _check)
