"""The .gfc cache file: contract in SPEC.md, reader and writer here. numpy and zstandard only, never torch.

Names load on first use, so that a command which opens no cache pays for none of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfcache.errors import (
        BasisMissing,
        CacheFormatError,
        CacheLocked,
        CacheWriteError,
        CannotRound,
        DamagedCache,
        LenderMissing,
        NoRoom,
        NotACacheFile,
        ParentChanged,
        ParentMissing,
        UnsupportedSection,
        UnsupportedVersion,
        UnwritableCache,
    )
    from gfcache.files.atomic import temporary_beside
    from gfcache.files.basis_files import offer_bases
    from gfcache.files.locks import lent_lock, output_lock
    from gfcache.format.bases import offer_basis
    from gfcache.format.convert import Coding, convert_cache
    from gfcache.format.export import copy_cache, export_safetensors
    from gfcache.format.header import Header, Section
    from gfcache.format.parents import (
        ancestors,
        flatten_cache,
        open_parent,
        parent_reference,
        row_parts,
        verify_cache,
        whole_array,
    )
    from gfcache.format.reader import CacheFile, read_cache
    from gfcache.format.receipt import Divergence, Receipt, receipt_in
    from gfcache.format.rules import expected_shape
    from gfcache.format.summary import inspect_cache
    from gfcache.format.writer import SectionData, write_cache
    from gfcache.store.entries import header_identity, identity_key
    from gfcache.store.folder import default_root
    from gfcache.store.index import Entry
    from gfcache.store.removal import Removal
    from gfcache.store.store import Store

_HOMES = {
    "BasisMissing": ".errors",
    "CacheFile": ".format.reader",
    "CacheFormatError": ".errors",
    "CacheLocked": ".errors",
    "CacheWriteError": ".errors",
    "Coding": ".format.convert",
    "CannotRound": ".errors",
    "DamagedCache": ".errors",
    "Entry": ".store.index",
    "Divergence": ".format.receipt",
    "Header": ".format.header",
    "LenderMissing": ".errors",
    "NoRoom": ".errors",
    "NotACacheFile": ".errors",
    "ParentChanged": ".errors",
    "ParentMissing": ".errors",
    "Receipt": ".format.receipt",
    "Removal": ".store.removal",
    "Section": ".format.header",
    "SectionData": ".format.writer",
    "Store": ".store.store",
    "UnsupportedSection": ".errors",
    "UnsupportedVersion": ".errors",
    "UnwritableCache": ".errors",
    "ancestors": ".format.parents",
    "convert_cache": ".format.convert",
    "copy_cache": ".format.export",
    "default_root": ".store.folder",
    "expected_shape": ".format.rules",
    "export_safetensors": ".format.export",
    "flatten_cache": ".format.parents",
    "header_identity": ".store.entries",
    "identity_key": ".store.entries",
    "inspect_cache": ".format.summary",
    "lent_lock": ".files.locks",
    "offer_bases": ".files.basis_files",
    "offer_basis": ".format.bases",
    "open_parent": ".format.parents",
    "output_lock": ".files.locks",
    "parent_reference": ".format.parents",
    "receipt_in": ".format.receipt",
    "row_parts": ".format.parents",
    "read_cache": ".format.reader",
    "temporary_beside": ".files.atomic",
    "verify_cache": ".format.parents",
    "whole_array": ".format.parents",
    "write_cache": ".format.writer",
}

__all__ = [
    "BasisMissing",
    "CacheFile",
    "CacheFormatError",
    "CacheLocked",
    "CacheWriteError",
    "CannotRound",
    "Coding",
    "DamagedCache",
    "Divergence",
    "Entry",
    "Header",
    "LenderMissing",
    "NoRoom",
    "NotACacheFile",
    "ParentChanged",
    "ParentMissing",
    "Receipt",
    "Removal",
    "Section",
    "SectionData",
    "Store",
    "UnsupportedSection",
    "UnsupportedVersion",
    "UnwritableCache",
    "ancestors",
    "convert_cache",
    "copy_cache",
    "default_root",
    "expected_shape",
    "export_safetensors",
    "flatten_cache",
    "header_identity",
    "identity_key",
    "inspect_cache",
    "lent_lock",
    "offer_bases",
    "offer_basis",
    "open_parent",
    "output_lock",
    "parent_reference",
    "read_cache",
    "receipt_in",
    "row_parts",
    "temporary_beside",
    "verify_cache",
    "whole_array",
    "write_cache",
]


def __getattr__(name: str) -> Any:
    if name == "layout":  # importing it makes it an attribute
        return importlib.import_module(".layout", __name__)
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
