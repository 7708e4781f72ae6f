"""The .gfc cache file: contract in SPEC.md, reader and writer here. numpy and zstandard only, never torch."""

from .errors import (
    CacheFormatError,
    CacheLocked,
    CacheWriteError,
    DamagedCache,
    NotACacheFile,
    ParentChanged,
    ParentMissing,
    UnsupportedSection,
    UnsupportedVersion,
    UnwritableCache,
)
from .export import copy_cache, export_safetensors
from .header import Header, Section
from .index import Entry, header_identity, identity_key
from .locks import lent_lock, output_lock
from .parents import flatten_cache, open_parent, parent_reference, verify_cache, whole_array
from .reader import CacheFile, read_cache
from .rules import expected_shape
from .store import NoRoom, Removal, Store
from .store_folder import default_root
from .summary import inspect_cache
from .writer import SectionData, write_cache

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
    "verify_cache",
    "whole_array",
    "write_cache",
]
