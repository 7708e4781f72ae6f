"""The .gfc cache file: contract in SPEC.md, reader and writer here. numpy and zstandard only, never torch."""

import importlib
from typing import TYPE_CHECKING

from gfcache.files.atomic import temporary_beside
from gfcache.files.locks import lent_lock, output_lock
from gfcache.format.export import copy_cache, export_safetensors
from gfcache.format.header import Header, Section
from gfcache.format.parents import ancestors, flatten_cache, open_parent, parent_reference, verify_cache, whole_array
from gfcache.format.reader import CacheFile, read_cache
from gfcache.format.rules import expected_shape
from gfcache.format.summary import inspect_cache
from gfcache.format.writer import SectionData, write_cache
from gfcache.store.folder import default_root

from .errors import (
    CacheFormatError,
    CacheLocked,
    CacheWriteError,
    DamagedCache,
    NoRoom,
    NotACacheFile,
    ParentChanged,
    ParentMissing,
    UnsupportedSection,
    UnsupportedVersion,
    UnwritableCache,
)

if TYPE_CHECKING:
    from gfcache.store.index import Entry, header_identity, identity_key
    from gfcache.store.removal import Removal
    from gfcache.store.store import Store

# Of the store, imported when first used: most commands need no database.
_STORE = {
    "Entry": "store.index",
    "Removal": "store.removal",
    "Store": "store.store",
    "header_identity": "store.index",
    "identity_key": "store.index",
}


def __getattr__(name: str) -> object:
    if name not in _STORE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_STORE[name]}", __name__), name)


__all__ = [
    "CacheFile",
    "CacheFormatError",
    "CacheLocked",
    "CacheWriteError",
    "DamagedCache",
    "Entry",
    "Header",
    "NoRoom",
    "NotACacheFile",
    "ParentChanged",
    "ParentMissing",
    "Removal",
    "Section",
    "SectionData",
    "Store",
    "UnsupportedSection",
    "UnsupportedVersion",
    "UnwritableCache",
    "ancestors",
    "copy_cache",
    "default_root",
    "expected_shape",
    "export_safetensors",
    "flatten_cache",
    "header_identity",
    "identity_key",
    "inspect_cache",
    "lent_lock",
    "open_parent",
    "output_lock",
    "parent_reference",
    "read_cache",
    "temporary_beside",
    "verify_cache",
    "whole_array",
    "write_cache",
]
