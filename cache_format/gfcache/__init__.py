"""The .gfc cache file: contract in SPEC.md, reader and writer here. numpy and zstandard only, never torch."""

import importlib
from typing import TYPE_CHECKING

from .atomic import temporary_beside
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
from .export import copy_cache, export_safetensors
from .header import Header, Section
from .locks import lent_lock, output_lock
from .parents import ancestors, flatten_cache, open_parent, parent_reference, verify_cache, whole_array
from .reader import CacheFile, read_cache
from .rules import expected_shape
from .store_folder import default_root
from .summary import inspect_cache
from .writer import SectionData, write_cache

if TYPE_CHECKING:
    from .index import Entry, header_identity, identity_key
    from .store import Removal, Store

# Of the store, imported when first used: most commands need no database.
_STORE = {"Entry": "index", "header_identity": "index", "identity_key": "index", "Removal": "store", "Store": "store"}


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
