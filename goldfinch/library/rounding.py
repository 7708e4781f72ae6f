"""A cache that is there, rounded and measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gfcache
from gfcache import Header

from goldfinch.caching.row_parts import Form
from goldfinch.measure.choosing import Bounds, measured

from .opening import Model, engine_of


def rounded_and_measured(model: Model, cache: Any, path: Path, form: Form, bounds: Bounds) -> Header:
    """Write a cache with codecs, or without some rows, and the receipt of what that costs.

    Args:
        model: of the cache.
        cache: opened from its file, nothing of it rounded.
        path: of the new file.
        form: where the bounds do not choose.

    Raises:
        gfcache.CannotRound: a codec has rounded it already, or it continues a base.
        NoCodecFits: nothing is within the bounds.
    """
    header = _whole(cache)
    if cache.row_parts or cache.numerics.coding.is_lossy or header.kept_rows is not None:
        reason = "a codec has rounded it, or rows were dropped, so what that cost cannot be measured any more"
        raise gfcache.CannotRound(cache.path, reason)
    found = measured(engine_of(model), cache, form, bounds, lambda rounded: rounded.file_bytes(path))
    written: Header = found.save(path, created_at=header.created_at)
    return written


def dropped_and_rounded(model: Model, cache: Any, path: Path, form: Form) -> Header:
    """Write a cache without the rows that a policy drops, the others rounded.

    Args:
        model, cache, path: as above.
        form: with its dropping.

    Raises:
        gfcache.CannotRound: it continues a base.
        GoldFinchError: rows of it cannot be dropped.
    """
    header = _whole(cache)
    written: Header = engine_of(model).coded(cache, form).save(path, created_at=header.created_at)
    return written


def _whole(cache: Any) -> Header:
    """The header of a cache that stands alone."""
    assert cache.path is not None
    with gfcache.read_cache(cache.path) as file:
        header = file.header
    if header.parent is not None:
        raise gfcache.CannotRound(cache.path, "it continues a base, whose rows are not in it")
    return header
