"""The families of models that this version knows: one file here describes each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gfcache.codecs import tokens

from .base import Family, in_compute_dtype
from .goldfinch import GOLDFINCH
from .transformers import TRANSFORMERS

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


def where_of(
    model: Mapping[str, Any], kind: str, token_start: int | None, rotated: bool | None, *, dropped: bool = False
) -> tokens.Where:
    """What a codec must know of a section.

    Args:
        model: of the header.
        kind, token_start, rotated: of the section.
        dropped: rows between those of the section are gone, so that their places do not tell positions.
    """
    if kind not in tokens.KINDS:
        return tokens.Where(kind)
    rotary = tuple(model.get("rotary") or ()) if rotated and not dropped else ()
    return tokens.Where(kind, token_start or 0, model["config"]["head_dim"], rotary)
