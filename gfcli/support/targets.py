"""What a name means: a cache file, or caches of the library by place, bytes, ID or name of a document. No torch."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gfcache import layout
from gfcache.files.regular import open_regular

from goldfinch.text.documents import place_of, storable_name

from .exits import NOT_FOUND, CommandError

if TYPE_CHECKING:
    from gfcache import Entry, Store

LEAST_ID_DIGITS = 4
_ID = re.compile(f"[0-9a-f]{{{LEAST_ID_DIGITS},40}}")

CACHES_HELP = "Cache files, quoted patterns, folders; or documents, IDs and names of the library."


def entries_named(store: Store, entries: Sequence[Entry], target: str) -> list[Entry]:
    """The caches of the library that a target means, none or several of one document.

    In this order: a cache file of the library, or a copy of one; the place of a document; the bytes of a document, so
    that it is found as `gf ask` finds it after a move; the beginning of an ID; the name of a document that is not here.

    Raises:
        CommandError: an ID or a name that several documents have.
    """
    real = os.path.realpath(target)
    digest, sha256 = _digests(target)
    place = storable_name(place_of(target))
    for found in (
        [e for e in entries if os.path.realpath(store.path(e)) == real],
        [e for e in entries if digest and e.digest == digest],
        [e for e in entries if e.source_path == place],
        [e for e in entries if sha256 and e.source_sha256 == sha256],
    ):
        if found:
            return found
    if _ID.fullmatch(target):
        found = [e for e in entries if e.name[3:].startswith(target)]
        if len(found) > 1:
            raise CommandError(f"{target} names {len(found)} caches", hint="give more characters of the ID")
        if found:
            return found
    found = [] if sha256 else [e for e in entries if e.source_name == storable_name(target)]
    texts = {e.source_sha256 or e.digest for e in found}
    if len(texts) > 1:
        raise CommandError(f"{target} names caches of {len(texts)} documents", hint="give an ID: gf cache ls")
    return found


def _digests(target: str) -> tuple[str | None, str | None]:
    """(digest of a cache file, SHA-256 of any other file), as far as there is one."""
    import gfcache

    try:
        with os.fdopen(open_regular(target, follow=True), "rb") as stream:
            if stream.read(len(layout.MAGIC)) != layout.MAGIC:
                stream.seek(0)
                return None, hashlib.file_digest(stream, "sha256").hexdigest()
        with gfcache.read_cache(target) as file:
            return file.header.digest, None
    except (OSError, ValueError, gfcache.CacheFormatError):
        return None, None


def cache_files_of(names: Sequence[str]) -> list[str]:
    """Cache files of names: a file as it is; of a document or an ID, what the library has of it.

    A name that means nothing in the library stays, so that whoever opens it says what is wrong with it.
    """
    found: list[str] = []
    for name in names:
        found += [name] if is_cache_file(name) else _in_library(name) or [name]
    return list(dict.fromkeys(found))


def is_cache_file(name: str) -> bool:
    """Whether a file begins as a cache does, or has the name of one; a damaged cache is one, too."""
    if name.endswith(layout.SUFFIX) or os.path.isdir(name):
        return True
    try:
        with os.fdopen(open_regular(name, follow=True), "rb") as stream:
            return stream.read(len(layout.MAGIC)) == layout.MAGIC
    except (OSError, ValueError):
        return False


def _in_library(name: str) -> list[str]:
    from .store import open_store

    with open_store() as store:
        return [str(store.path(entry)) for entry in entries_named(store, store.entries(), name)]


def not_in_library(target: str) -> CommandError:
    """Exit 4, with where to look."""
    hint = f"gf cache ls shows them; IDs may be shortened to {LEAST_ID_DIGITS} or more characters"
    return CommandError(f"{target}: no such cache in the library", code=NOT_FOUND, hint=hint)
