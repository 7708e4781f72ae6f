"""The .gfc cache file: contract in SPEC.md, reader and writer here. numpy and zstandard only, never torch."""

from .errors import (
    CacheFormatError,
    CacheWriteError,
    DamagedCache,
    NotACacheFile,
    UnsupportedSection,
    UnsupportedVersion,
)
from .header import Header, Section, expected_shape
from .reader import CacheFile, read_cache, verify_cache
from .summary import inspect_cache
from .writer import SectionData, write_cache

__all__ = [
    "CacheFile",
    "CacheFormatError",
    "CacheWriteError",
    "DamagedCache",
    "Header",
    "NotACacheFile",
    "Section",
    "SectionData",
    "UnsupportedSection",
    "UnsupportedVersion",
    "expected_shape",
    "inspect_cache",
    "read_cache",
    "verify_cache",
    "write_cache",
]
