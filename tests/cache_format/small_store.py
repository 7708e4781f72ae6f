"""A store and small caches in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import gfcache
import numpy as np
import pytest
from gfcache import SectionData, Store, layout

from tests.cache_format.craft import sections_of

GOLDEN = Path(__file__).parent.parent / "golden" / "v1"


def put(store: Store, name: str, *, size: int = 0, used: float | None = None) -> gfcache.Entry:
    """A small valid cache of document `name` in the store, padded to about `size` bytes."""
    header, data = sections_of(GOLDEN / "goldfinch.gfc")
    if size:
        pad = np.random.default_rng(len(name)).integers(0, 256, size, dtype=np.uint8)
        data.append(SectionData("padding", layout.SOURCE_TEXT, "u8", pad, required=False))
    path = store.path_of("test", name)
    source = {
        "name": name,
        "path": f"/documents/{name}",
        "sha256": f"{len(name):064x}",
        "bytes": 1,
        "modified_at": None,
    }
    with store.writing(path, size + 60_000):
        gfcache.write_cache(path, dataclasses.replace(header, source=source, sections=()), data)
    entry = store.added(path)
    if used is not None:
        store._with_index(lambda index: index.use(entry.name, used, False))
    return entry


def names(store: Store) -> set[str | None]:
    return {entry.source_name for entry in store.entries()}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")
