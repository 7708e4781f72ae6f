"""Where two cache files differ."""

from __future__ import annotations

from typing import Any

import numpy as np

from gfcache import layout

from .families.base import Group, Stands, named
from .families.registry import family_of
from .header import Section
from .lenders import whole_table
from .parents import whole_array
from .reader import CacheFile

# The fingerprints that a cache belongs to: part of the header, field.
IDENTITY = (
    ("model", "prefill_fingerprint"),
    ("model", "model_fingerprint"),
    ("tokenizer", "fingerprint"),
    ("template", "prefix_fingerprint"),
    ("model", "layers"),
)
# The same, where both files note them.
NOTED = (("template", "fingerprint"),)


def compare_caches(a: CacheFile, b: CacheFile) -> dict[str, Any]:
    """What differs between two files, their bases and lenders included; time stamps and provenance do not count.

    Returns:
        equal: nothing but numerics differs; tokens: of each; first_divergent_token: or None; identity, numerics,
        sections: names of what differs.

    Raises:
        ParentMissing, ParentChanged, DamagedCache: see `whole_array`.
    """
    fields = (*IDENTITY, *(f for f in NOTED if None not in (_value(a, *f), _value(b, *f))))
    identity = [f"{part}.{name}" for part, name in fields if _value(a, part, name) != _value(b, part, name)]
    noted = {*a.header.numerics, *b.header.numerics}
    numerics = sorted(name for name in noted if a.header.numerics.get(name) != b.header.numerics.get(name))
    sections = _different_sections(a, b)
    bases = [(file.header.parent or {}).get("digest") for file in (a, b)]
    if None not in bases and bases[0] != bases[1]:
        sections += [f"{name} of the base" for name in _different_rows(a, b)]
    first = first_divergent_token(*(whole_array(file, layout.TOKEN_IDS)[0] for file in (a, b)))
    return {
        "equal": not (identity or sections) and first is None,
        "tokens": [a.header.tokens, b.header.tokens],
        "first_divergent_token": first,
        "identity": identity,
        "numerics": numerics,
        "sections": sections,
    }


def _value(file: CacheFile, part: str, name: str) -> Any:
    return getattr(file.header, part).get(name)


def _different_sections(a: CacheFile, b: CacheFile) -> list[str]:
    """Names of the sections that only one has, then of those whose bytes differ."""
    mine, theirs = ({s.name: (s.dtype, s.shape, s.codec, s.sha256) for s in _table(file)} for file in (a, b))
    both = sorted(set(mine) & set(theirs))
    return sorted(set(mine) ^ set(theirs)) + [name for name in both if mine[name] != theirs[name]]


def _table(file: CacheFile) -> list[Section]:
    """The sections of a file, those that are lent to it included."""
    with whole_table(file) as rows:
        return [section for section, _, _ in rows] + [s for s in file.header.sections if not s.is_known]


def _different_rows(a: CacheFile, b: CacheFile) -> list[str]:
    """Names of the per-token kinds, bases included, that two caches with a base each hold differently; without the
    token ids, and without kinds that only one has: the table says so."""
    kinds = [kind.kind for kind in family_of(a.header.model).kinds if kind.stands is Stands.CHUNKS]
    found = []
    for kind in kinds:
        layers = ({s.layer for s in file.header.of_kind(kind)} for file in (a, b))
        for layer in sorted(set.intersection(*layers), key=str):
            (one, one_dtype), (other, other_dtype) = (whole_array(file, kind, layer) for file in (a, b))
            if one_dtype != other_dtype or one.tobytes() != other.tobytes():
                found.append(named(kind, Group(layer)))
    return found


def first_divergent_token(a: np.ndarray, b: np.ndarray) -> int | None:
    """Position of the first token that differs between (T,) and (U,) ids, or that only one has; None when equal."""
    n = min(len(a), len(b))
    differs = (a[:n] != b[:n]).nonzero()[0]
    if len(differs):
        return int(differs[0])
    return None if len(a) == len(b) else n
