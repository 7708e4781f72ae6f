"""How the sections of a family of models are described: packing, planning and checking read one description.

A family is a table of `SectionKind`, in the order of SPEC section 3, and a function that draws from a configuration the
few numbers that shapes follow from. Nothing here knows a header or a file.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from gfcache import layout

# The numbers of a model that shapes follow from: a type of each family's own.
Dimensions = Any
# The dtypes that a section may have: from dimensions, compute dtype (None: not known) and place.
DtypesOf = Callable[[Dimensions, "str | None", "Place"], tuple[str, ...]]


class Stands(enum.Enum):
    """Where the sections of a kind stand in a file of T tokens, of which a parent holds the first P."""

    OWN_TOKENS = "one section for the file's own tokens, P to T"
    CHUNKS = "one section for each `chunk_tokens` of the file's own tokens"
    LAYERS = "one section for each of some layers, of all tokens: in a file without a parent or checkpoints"
    STATE = "one section at T and at each checkpoint"
    END = "one section at T"
    BLOCKS = "one section for each block of the document"
    KEPT = "one section where rows were dropped"
    FREE = "as the writer likes"

    @property
    def continues(self) -> bool:
        """A parent holds the beginning: the whole is that of both."""
        return self in (Stands.OWN_TOKENS, Stands.CHUNKS)


class Place(NamedTuple):
    """Where one section stands.

    Attributes:
        tokens, first_token: T and P of the file.
        position, token_start, layer, role: as in `header.Section`.
        kept: rows that are stored where not all are; `token_start` of rows then counts those.
    """

    tokens: int
    first_token: int = 0
    position: int | None = None
    token_start: int | None = None
    layer: int | None = None
    role: str | None = None
    kept: int | None = None

    def rows(self, chunk_tokens: int) -> int:
        """Rows of the chunk that begins here, where full ones have `chunk_tokens`."""
        end = self.tokens if self.kept is None else self.kept
        return max(min(chunk_tokens, end - (self.token_start or 0)), 0)


class Group(NamedTuple):
    """Layers that one section stacks, where a kind has several sections at one place.

    Attributes:
        layer: the first of them.
        role: of the state.
    """

    layer: int | None = None
    role: str | None = None


# Of a kind that has one section at a place.
ONE = (Group(),)


def one_group(dimensions: Dimensions) -> Sequence[Group]:
    """All of a model in one section."""
    return ONE


def always(dimensions: Dimensions) -> bool:
    """Every model of the family has it."""
    return True


def on_prefill(dimensions: Dimensions) -> str:
    """Follows from what prefill reads of the model."""
    return "prefill"


def on_model(dimensions: Dimensions) -> str:
    """Follows from all weights."""
    return "model"


def in_compute_dtype(dimensions: Dimensions, compute_dtype: str | None, place: Place) -> tuple[str, ...]:
    """The compute dtype; any that it may be where it is not known."""
    return (compute_dtype,) if compute_dtype in layout.COMPUTE_DTYPES else layout.COMPUTE_DTYPES


def in_state_dtype(dimensions: Dimensions, compute_dtype: str | None, place: Place) -> tuple[str, ...]:
    """f32, f64 beside f64: sums over a whole document."""
    return ("f64",) if compute_dtype == "f64" else ("f32",)


def in_token_dtype(dimensions: Dimensions, compute_dtype: str | None, place: Place) -> tuple[str, ...]:
    """Of token ids, from the `vocab_size` of the dimensions."""
    return ("u16",) if dimensions.vocab_size <= 1 << 16 else ("u32",)


def fixed(*names: str) -> DtypesOf:
    """One of these dtypes, whatever is computed in."""
    return lambda dimensions, compute_dtype, place: names


@dataclass(frozen=True)
class SectionKind:
    """One kind of section: a row of SPEC's table.

    Attributes:
        kind: its name (layout).
        stands: where its sections stand.
        shape: of the section at a place; None, or one that gives None, where any is allowed.
        dtypes: that it may have at a place, beside a compute dtype (None: not known); a writer takes the first.
        depends_on: "prefill" or "model": which fingerprint must match to use it.
        present: whether a model has it.
        layers: those that have a section, of a kind that stands in layers.
        groups: of layers, each with a section of its own wherever the kind stands.
        starts: where the sections begin, of a kind that stands in blocks.
        required: a reader that does not know the kind must refuse the file.
        per_token: it grows with the document.
        codec: tried when it is written; raw where that wins.
        chunk_tokens: of a full chunk, of a kind that stands in chunks.
        row_axis: the axis of the tokens, of a kind that a parent holds the beginning of.
        rotated: keys as their queries meet them, nothing left to rotate; None of what is no keys.
    """

    kind: str
    stands: Stands
    shape: Callable[[Dimensions, Place], tuple[int, ...] | None] | None
    dtypes: DtypesOf = in_compute_dtype
    depends_on: Callable[[Dimensions], str] = on_prefill
    present: Callable[[Dimensions], bool] = always
    layers: Callable[[Dimensions], range] | None = None
    groups: Callable[[Dimensions], Sequence[Group]] = one_group
    starts: Callable[[Dimensions], Sequence[int]] = lambda dimensions: ()
    required: bool = True
    per_token: bool = False
    codec: str = "raw"
    chunk_tokens: int = layout.CHUNK_TOKENS
    row_axis: int = 0
    rotated: bool | None = None


def optional(kind: str, *dtypes: str, **more: Any) -> SectionKind:
    """A kind that a reader which does not know it may skip, of one of these dtypes, anywhere."""
    return SectionKind(kind, Stands.FREE, more.pop("shape", None), fixed(*dtypes), required=False, **more)


class Described(NamedTuple):
    """A section as the description has it: what a writer fills with values.

    Attributes:
        name, kind, dtype, shape, depends_on, required, position, token_start, layer, role, rotated: as in
            `header.Section`.
        codec: to try.
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    depends_on: str
    required: bool
    codec: str
    position: int | None
    token_start: int | None
    layer: int | None
    role: str | None = None
    rotated: bool | None = None


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        name: for people.
        reads: whether the family reads a header's `model`.
        dimensions: the numbers that shapes follow from, of a header's `model` that rule R7 has passed.
        kinds: its table.
        check: what of a header's `model` breaks R7 besides what all families share: (found, expected), or None.
    """

    name: str
    reads: Callable[[Mapping[str, Any]], bool]
    dimensions: Callable[[Mapping[str, Any]], Dimensions]
    kinds: tuple[SectionKind, ...]
    check: Callable[[Mapping[str, Any]], tuple[str, str] | None] = lambda model: None

    @cached_property
    def by_name(self) -> dict[str, SectionKind]:
        """The table by the name of the kind."""
        return {kind.kind: kind for kind in self.kinds}

    def standing(self, stands: Stands, dimensions: Dimensions) -> list[SectionKind]:
        """The kinds that a model has and that stand so."""
        return [kind for kind in self.kinds if kind.stands is stands and kind.present(dimensions)]

    def sections(
        self,
        model: Mapping[str, Any],
        tokens: int,
        compute_dtype: str,
        *,
        first_token: int = 0,
        checkpoints: Sequence[int] = (),
        kept: int | None = None,
    ) -> list[Described]:
        """The sections of a file that a model can resume from, in the order in which they are written.

        Args:
            model: as a header holds it.
            tokens: T.
            compute_dtype: "f64", "f32" or "bf16".
            first_token: P, tokens that a parent holds.
            checkpoints: positions of states before T.
            kept: rows that are stored where not all are.
        """
        dimensions = self.dimensions(model)
        found: list[Described] = []

        def add(kind: SectionKind, name: str, place: Place) -> None:
            shape = None if kind.shape is None else kind.shape(dimensions, place)
            if shape is None:
                return  # what the values alone tell: its writer adds it
            dtype = kind.dtypes(dimensions, compute_dtype, place)[0]
            row = (name, kind.kind, dtype, shape, kind.depends_on(dimensions), kind.required, kind.codec)
            found.append(Described(*row, place.position, place.token_start, place.layer, place.role, kind.rotated))

        here, end = Place(tokens, first_token, kept=kept), tokens if kept is None else kept
        for kind in (kind for kind in self.kinds if kind.present(dimensions)):
            for group in kind.groups(dimensions):
                name, place = named(kind.kind, group), here._replace(layer=group.layer, role=group.role)
                if kind.stands is Stands.OWN_TOKENS:
                    add(kind, name, place._replace(token_start=first_token))
                elif kind.stands is Stands.CHUNKS:
                    for start in range(first_token, end, kind.chunk_tokens):
                        add(kind, f"{name}/{start}", place._replace(token_start=start))
                elif kind.stands is Stands.BLOCKS:
                    for start in kind.starts(dimensions):
                        add(kind, f"{name}/{start}", place._replace(token_start=start))
                elif kind.stands is Stands.LAYERS and kind.layers is not None:
                    for layer in kind.layers(dimensions):
                        add(kind, f"{name}/{layer}", place._replace(token_start=0, layer=layer))
                elif kind.stands in (Stands.STATE, Stands.END):
                    add(kind, name, place._replace(position=tokens))
                elif kind.stands is Stands.KEPT and kept is not None:
                    add(kind, name, place)
        for position in checkpoints:
            for kind in self.standing(Stands.STATE, dimensions):
                for group in kind.groups(dimensions):
                    place = here._replace(position=position, layer=group.layer, role=group.role)
                    add(kind, f"{named(kind.kind, group)}@{position}", place)
        return found


def named(kind: str, group: Group) -> str:
    """How the sections of a group are called, before what tells them apart."""
    return "/".join(str(part) for part in (kind, group.layer, group.role) if part is not None)
