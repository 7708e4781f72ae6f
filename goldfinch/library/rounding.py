"""A cache that is there, rounded and measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gfcache
from gfcache import Coding, Header

from goldfinch.measure.choosing import Bounds, measured

from .opening import Model, engine_of


def rounded_and_measured(model: Model, cache: Any, path: Path, coding: Coding, bounds: Bounds) -> Header:
    """Write a cache with codecs and the receipt of what they cost.

    Args:
        model: of the cache.
        cache: opened from its file, nothing of it rounded.
        path: of the new file.
        coding: where the bounds do not choose.

    Raises:
        gfcache.CannotRound: a codec has rounded it already, it continues a base, or it is of a model of others.
        NoCodecFits: nothing is within the bounds.
    """
    assert cache.path is not None
    card = engine_of(model).card
    with gfcache.read_cache(cache.path) as file:
        header = file.header
    if card is not None and card.is_foreign:
        raise gfcache.CannotRound(
            cache.path, f"{card.name} is a model of others: what codecs cost in its predictions is not measured"
        )
    if header.parent is not None:
        raise gfcache.CannotRound(cache.path, "it continues a base, whose values cannot be measured with it")
    if cache.row_parts or cache.numerics.coding.is_lossy:
        raise gfcache.CannotRound(cache.path, "a codec has rounded it, so what it cost cannot be measured any more")
    found = measured(model, cache, coding, bounds, lambda rounded: rounded.file_bytes(path))
    written: Header = found.save(path, created_at=header.created_at)
    return written
