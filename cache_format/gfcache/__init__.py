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
)
from .header import Header, Section, expected_shape
from .locks import output_lock
from .parents import flatten_cache, open_parent, parent_reference, verify_cache, whole_array
from .reader import CacheFile, read_cache
from .summary import inspect_cache
from .writer import SectionData, write_cache

__all__ = [
    "CacheFile",
    "CacheFormatError",
    "CacheLocked",
    "CacheWriteError",
    "DamagedCache",
    "Header",
    "NotACacheFile",
    "ParentChanged",
    "ParentMissing",
    "Section",
    "SectionData",
    "UnsupportedSection",
    "UnsupportedVersion",
    "expected_shape",
    "flatten_cache",
    "inspect_cache",
    "open_parent",
    "output_lock",
    "parent_reference",
    "read_cache",
    "verify_cache",
    "whole_array",
    "write_cache",
]
