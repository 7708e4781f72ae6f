"""Blocks that other caches of the library hold already: found by digest, computed once, and kept once.

A document in blocks (models of others) is computed block by block, each blind to the others, so two documents with
equal text have equal blocks. What identifies each block of a cache is kept beside the index of the store, under the
cache's digest, and found in the file where it is not known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gfcache
from gfcache import Entry, Store, layout
from gfcache.format.lenders import KEY_BYTES, block_keys, block_tokens, kept_place, own_blocks

from goldfinch.errors import GoldFinchError

from .known import MADE, REPLAYED, known_of
from .opening import Model, engine_of

_RULES = "keys of blocks, 1"


def lenders_for(store: Store, model: Model, identity: str, keys: Sequence[bytes], path: Path) -> list[Any]:
    """Caches of a store that hold blocks of a document, open, those with the most first.

    Only what runs of this user made, with the numerics of this one, lends: a block is then the very one that would be
    computed.

    Args:
        identity: of the caches that the model makes (`gfcache.identity_key`).
        keys: of the document's blocks (`Engine.block_keys`).
        path: of the document's own cache, which is to be replaced.
    """
    wanted, engine, found = set(keys), engine_of(model), list[Any]()
    entries = {entry.digest: entry for entry in _candidates(store, identity, path)}
    held = _keys_of(store, entries)
    while wanted and held and len(found) < layout.MAX_LENDERS:
        digest = max(held, key=lambda one: len(held[one] & wanted))
        own = held.pop(digest) & wanted
        if not own:
            break
        with contextlib.suppress(OSError, gfcache.CacheFormatError, GoldFinchError):
            cache = engine.open(store.path(entries[digest]), asking=True)
            if cache.digest == digest and engine.difference(cache.numerics) is None:
                found.append(cache)
                wanted -= own
    return found


def still_there(store: Store, lenders: Sequence[Any], path: Path) -> list[Any]:
    """Those of the lenders that a file at `path` may name, each where it is now; the store is held meanwhile."""
    there = []
    for lender in lenders:
        for place in (kept_place(store.folder, lender.digest), lender.path):
            if place != path and _digest_at(place) == lender.digest:
                lender.path = place
                there.append(lender)
                break
    return there


def _candidates(store: Store, identity: str, path: Path) -> list[Entry]:
    """Caches that may lend; that in the place of the new one only where it will be set aside."""
    entries = list[Entry]()
    with contextlib.suppress(OSError, gfcache.CacheFormatError):  # without an index all is computed
        entries = store.entries()
    needed = {digest for entry in entries for digest in entry.rests_on}
    fitting = [e for e in entries if e.identity == identity and e.error is None]
    known = known_of([entry.digest for entry in fitting])
    fitting = [entry for entry in fitting if known.get(entry.digest) in (MADE, REPLAYED)]
    return [entry for entry in fitting if store.path(entry) != path or entry.digest in needed]


def _keys_of(store: Store, entries: dict[str, Entry]) -> dict[str, set[bytes]]:
    """Keys of the blocks that caches hold themselves, by digest."""
    with store.block_keys(_RULES) as record:
        known = record.of(entries)
        new = {}
        for digest, entry in entries.items():
            if digest not in known:
                with contextlib.suppress(OSError, gfcache.CacheFormatError):
                    new[digest] = _keys_in(store.path(entry))
        record.put(new, kept=True)
    rows = known | new
    return {n: {row[at : at + KEY_BYTES] for at in range(0, len(row), KEY_BYTES)} for n, row in rows.items()}


def _keys_in(path: Path) -> bytes:
    with gfcache.read_cache(path) as file:
        if not file.header.model.get("blocks"):
            return b""
        return b"".join(block_keys(block_tokens(file)[0], [*own_blocks(file)]))


def _digest_at(path: Path) -> str | None:
    try:
        with gfcache.read_cache(path) as file:
            return file.header.digest
    except (OSError, gfcache.CacheFormatError):
        return None
