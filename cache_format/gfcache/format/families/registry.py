"""The families of models that this version knows: one file here describes each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
