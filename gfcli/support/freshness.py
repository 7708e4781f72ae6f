"""Whether a cache still belongs to its source file: the rules behind gf status, gf refresh and gf ask --explain."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gfcache
from gfcache import Header

from .exits import CommandError

FRESH, STALE, ORPHANED, DETACHED, BROKEN, DAMAGED = "fresh", "stale", "orphaned", "detached", "broken", "damaged"
STATES = {
    FRESH: "the source is what was pre-filled",
    STALE: "the source has changed since",
    ORPHANED: "the source is gone, or is no file any more",
    DETACHED: "made from stdin, or changed by append or truncate: no source to compare with",
    BROKEN: "the base cache is gone, was replaced or is damaged",
    DAMAGED: "not a readable cache, or one whose checksums do not hold",
}


def find_caches(names: Sequence[str]) -> list[Path]:
    """Cache files: those named, and all `*.gfc` below the folders named, sorted.

    Raises:
        FileNotFoundError: a name that does not exist.
        CommandError: nothing found.
    """
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found += sorted(p for p in path.rglob("*.gfc") if p.is_file())
        elif path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(2, "no such file or folder", name)
    if not found:
        raise CommandError(f"no cache files in {', '.join(names)}", hint="gf prefill doc.txt makes one")
    return list(dict.fromkeys(found))


def source_state(header: Header, cache: Path) -> tuple[str, str | None]:
    """FRESH, STALE, ORPHANED or DETACHED, from the bytes of the source file, and where that is.

    Where the path noted is gone, a file of that name beside the cache is the source if it has the very bytes that were
    pre-filled: both were moved together. With other bytes it may be anybody's.

    Args:
        cache: the file that the header was read from.
    """
    source = header.source or {}
    path = source.get("path")
    if path is None or source.get("sha256") is None:
        return DETACHED, path
    if not os.path.lexists(path):
        beside = Path(os.path.abspath(cache)).parent / Path(path).name
        if _compare(beside, source) == FRESH:
            return FRESH, str(beside)
    return _compare(Path(path), source), path


def _compare(path: Path, source: Mapping[str, Any]) -> str:
    """FRESH, STALE or ORPHANED: a file against what a cache says of its source."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):  # a pipe or device, which a foreign cache may name, may never end
            return ORPHANED
        if found.st_size != source.get("bytes"):
            return STALE
        with open(path, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return ORPHANED
    return FRESH if digest == source["sha256"] else STALE


def cache_state(path: Path) -> dict[str, Any]:
    """One row of gf status: path, state, source, tokens, bytes, model; no tokens when nothing can be read."""
    row: dict[str, Any] = {"path": str(path), "source": None, "tokens": None, "bytes": None, "model": None}
    try:
        with gfcache.read_cache(path) as file:
            header = file.header
        state, place = source_state(header, path)
        row |= {
            "source": place or (header.source or {}).get("name"),
            "tokens": header.tokens,
            "bytes": path.stat().st_size,
            "model": header.model.get("name"),
        }
        if not _verified(path) and state in (FRESH, DETACHED):
            state = BROKEN
    except (OSError, gfcache.CacheFormatError) as error:
        return {"state": DAMAGED, **row, "message": str(error)}
    return {"state": state, **row}


def _verified(path: Path) -> bool:
    """Whether the bases of a cache hold, too.

    Raises:
        CacheFormatError: the file itself is damaged.
    """
    try:
        gfcache.verify_cache(path, complete=True)
    except (gfcache.ParentMissing, gfcache.ParentChanged):
        return False
    except gfcache.CacheFormatError as error:
        if error.path == str(path):
            raise
        return False
    return True
