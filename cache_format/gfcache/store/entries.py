"""Entries of a store from the headers of its files, and what two caches must share to be interchangeable."""

from __future__ import annotations

import datetime
import hashlib
import os
from pathlib import Path

from gfcache.errors import CacheFormatError, DamagedCache, NotACacheFile
from gfcache.format.header import Header
from gfcache.format.reader import CacheFile

from .index import Entry


def identity_key(
    prefill_fingerprint: str, model_fingerprint: str, tokenizer_fingerprint: str | None, prefix: str, dtype: str
) -> str:
    """One digest over everything that two caches of one text must share to be interchangeable."""
    parts = (prefill_fingerprint, model_fingerprint, tokenizer_fingerprint or "", prefix, dtype)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def header_identity(header: Header) -> str:
    """The `identity_key` of a file."""
    return identity_key(
        header.model["prefill_fingerprint"],
        header.model["model_fingerprint"],
        header.tokenizer.get("fingerprint"),
        header.template["prefix_fingerprint"],
        str(header.compute_dtype),
    )


def entry_of(name: str, stat: os.stat_result, header: Header) -> Entry:
    """What the index has of a file.

    Args:
        name: relative to the library folder.
        stat, header: of the file.
    """
    source = header.source or {}
    try:
        created = datetime.datetime.fromisoformat(header.created_at).timestamp()
    except (ValueError, OverflowError):
        created = stat.st_mtime
    return Entry(
        name=name,
        bytes=stat.st_size,
        modified_ns=stat.st_mtime_ns,
        digest=header.digest,
        identity=header_identity(header),
        source_path=source.get("path"),
        source_name=source.get("name"),
        source_sha256=source.get("sha256"),
        model=header.model.get("name"),
        compute_dtype=header.compute_dtype,
        tokens=header.tokens,
        created_at=created,
        parent_digest=" ".join(f["digest"] for f in (header.parent, *header.lenders) if f is not None) or None,
        error=None,
        last_used=stat.st_mtime,
    )


def is_as_listed(old: Entry, new: Entry) -> bool:
    """Whether nobody has pinned, tagged or replaced a cache since it was listed; pins are looked at on their own."""
    return (old.tags, old.digest, old.bytes) == (new.tags, new.digest, new.bytes)


def is_damaged(path: Path) -> bool:
    """Whether no reader will ever read a file: not merely this one, or not now."""
    try:
        CacheFile(path).close()
    except (DamagedCache, NotACacheFile):
        return True
    except (OSError, CacheFormatError):
        pass
    return False
