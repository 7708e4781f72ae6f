"""The families of models that this version knows: one file here describes each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from gfcache.codecs import tokens
from gfcache.format.bases import matrices_of

from .base import Family, Group, in_compute_dtype
from .goldfinch import GOLDFINCH
from .transformers import TRANSFORMERS, Dimensions

# In the order in which they are asked.
FAMILIES: tuple[Family, ...] = (TRANSFORMERS, GOLDFINCH)

_ALL = {kind.kind: kind for family in FAMILIES for kind in family.kinds}
# Every kind of section that this version knows.
KINDS = tuple(_ALL)
# Kinds in the compute dtype: where a header does not name it, they tell it.
COMPUTE_KINDS = frozenset(name for name, kind in _ALL.items() if kind.dtypes is in_compute_dtype)
# Kinds whose size grows with the document; the others are the fixed part.
PER_TOKEN_KINDS = frozenset(name for name, kind in _ALL.items() if kind.per_token)


def family_of(model: Mapping[str, Any]) -> Family:
    """The family that reads a header's `model`."""
    return next(family for family in FAMILIES if family.reads(model))


class HasPlace(Protocol):
    """A section as far as codecs ask: in a table, as described, or with its values."""

    @property
    def kind(self) -> str: ...
    @property
    def token_start(self) -> int | None: ...
    @property
    def layer(self) -> int | None: ...
    @property
    def rotated(self) -> bool | None: ...


class CodedPlace(NamedTuple):
    """What a section that is not described yet has of `HasPlace`."""

    kind: str
    token_start: int | None = None
    layer: int | None = None
    rotated: bool | None = None


def where_of(
    model: Mapping[str, Any], section: HasPlace, *, dropped: bool = False, basis: str | None = None
) -> tokens.Where:
    """What a codec must know of a section.

    Args:
        model: of the header.
        dropped: rows between those of the section are gone, so that their places do not tell positions.
        basis: digest of the one that its codec needs, where it needs one; it may be unknown here (`Where.basis`).
    """
    if section.kind not in tokens.KINDS:
        return tokens.Where(section.kind)
    rotary = tuple(model.get("rotary") or ()) if section.rotated and not dropped else ()
    found = tokens.Where(section.kind, section.token_start or 0, model["config"]["head_dim"], rotary)
    if basis is None:
        return found
    layers = Dimensions.of(model).members.get(Group(section.layer), [])
    return found._replace(basis=matrices_of(basis, tuple(layers), tokens.PARTS[section.kind][0]))
