"""Caches outside the library whose documents are gone: which of them may be removed, and their removal. No torch.

Anybody may have put a file below a folder that somebody names. So a cache goes only when a run of this user's made it
(the record of `library.known`, by the digest of all its bytes, which are compared with it), when it lies below that
folder without a link on the way, and when no file is at any place where its document could be.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import gfcache
from gfcache import layout
from gfcache.files.locks import LOCK_SUFFIX, sweep
from gfcache.files.places import belongs_to_user

from goldfinch.library.freshness import ORPHANED, cache_state, place_seen_from
from goldfinch.library.known import MADE, how_known
from goldfinch.library.reach import Reach

from .patterns import files_below

# Why an orphaned cache stays.
NOT_MADE_HERE = "no run of yours made it"
NOT_GONE = "what has the name of its document is no file, or cannot be looked at"
BASE = "in use as a base"
LOCKED = "being written"
CHANGED = "changed since it was listed"

# What the system says of a place where nothing is.
_NOWHERE = (errno.ENOENT, errno.ENOTDIR)


@dataclass(frozen=True)
class Orphan:
    """A cache without its document.

    Attributes:
        path: of the cache.
        source: where its document was.
        digest: of the cache file.
        bytes: of it.
        seen: (device, inode, size, time of change in ns) of what was looked at.
    """

    path: Path
    source: str
    digest: str
    bytes: int
    seen: tuple[int, int, int, int]


@dataclass
class Orphans:
    """What was found below some folders, or what became of it.

    Attributes:
        removable: caches that may go, in an order in which none goes before those that continue it.
        skipped: (cache, why) of orphaned caches that stay.
    """

    removable: list[Orphan] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Of the removable ones."""
        return sum(orphan.bytes for orphan in self.removable)


def find_orphans(folders: Sequence[Path], library: Path | None = None, in_use: Sequence[str] = ()) -> Orphans:
    """The orphaned caches below folders: no link, nothing hidden, nothing of the library.

    Args:
        library: the folder of the library, which has rules of its own.
        in_use: digests of bases of caches elsewhere, as far as they are known.
    """
    found, reach = Orphans(), Reach(folders)
    by_digest: dict[str, Orphan] = {}
    continued: dict[str, str | None] = {}  # digest of a cache: that of its base
    for path in _caches(folders, library):
        header, seen = _header(path)
        if header is None or header.digest is None:
            continue
        continued[header.digest] = None if header.parent is None else header.parent["digest"]
        row = cache_state(path, reach)
        if row["state"] != ORPHANED:
            continue
        why = _why_not(path, header)
        if why is not None or seen is None:
            found.skipped.append((path, why or CHANGED))
        elif header.digest in by_digest:  # a copy: it goes with the other
            found.removable.append(Orphan(path, row["source"], header.digest, seen[2], seen))
        else:
            by_digest[header.digest] = Orphan(path, row["source"], header.digest, seen[2], seen)
    _keep_bases(by_digest, continued, in_use, found)
    return found


def _caches(folders: Sequence[Path], library: Path | None) -> Iterator[Path]:
    """Regular files with the suffix of caches, each once."""
    shelf = None if library is None else os.path.realpath(library)
    seen: set[str] = set()
    for folder in folders:
        for path in files_below(folder, layout.SUFFIX):
            real = os.path.realpath(path)
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            kept = shelf is not None and Path(real).is_relative_to(shelf)
            if not (hidden or kept or path.is_symlink() or real in seen):
                seen.add(real)
                yield path


def _header(path: Path) -> tuple[gfcache.Header | None, tuple[int, int, int, int] | None]:
    """The header of a cache, and which file it was read from; None for what cannot be read."""
    try:
        before = _seen(os.lstat(path))
        with gfcache.read_cache(path) as file:
            header = file.header
        return header, before if before == _seen(os.lstat(path)) else None
    except (OSError, gfcache.CacheFormatError):
        return None, None


def _seen(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns


def _why_not(path: Path, header: gfcache.Header) -> str | None:
    """Why an orphaned cache may not be removed; None when it may."""
    if how_known(header.digest) != MADE or not belongs_to_user(os.lstat(path)):
        return NOT_MADE_HERE
    source = header.source or {}
    places = (Path(source["path"]), place_seen_from(path, source))
    return None if all(place is None or _is_gone(place) for place in places) else NOT_GONE


def _is_gone(place: Path) -> bool:
    """Whether certainly nothing is there: a folder that may not be entered says nothing."""
    try:
        os.lstat(place)
    except OSError as error:
        return error.errno in _NOWHERE
    except ValueError:  # a NUL in it
        return True
    return False


def _keep_bases(
    removable: dict[str, Orphan], continued: dict[str, str | None], in_use: Sequence[str], found: Orphans
) -> None:
    """Leave those out that a cache continues which stays; order the others, children first."""
    needed = [*in_use, *(base for digest, base in continued.items() if digest not in removable and base)]
    while needed:
        digest = needed.pop()
        orphan = removable.pop(digest, None)
        if orphan is not None:
            found.skipped += [(path, BASE) for path in _places(orphan, found)]
            found.removable = [other for other in found.removable if other.digest != digest]
        base = continued.pop(digest, None)
        if base is not None:
            needed.append(base)

    def depth(orphan: Orphan) -> int:
        steps, base = 0, continued.get(orphan.digest)
        while base is not None and steps < layout.MAX_PARENTS:
            steps, base = steps + 1, continued.get(base)
        return steps

    found.removable = sorted([*removable.values(), *found.removable], key=lambda o: (-depth(o), o.path))


def _places(orphan: Orphan, found: Orphans) -> list[Path]:
    return [orphan.path, *(other.path for other in found.removable if other.digest == orphan.digest)]


def remove(orphans: Sequence[Orphan]) -> Orphans:
    """Remove caches that `find_orphans` found, each under its lock and only while it is the very file that was found.

    Raises:
        gfcache.CacheWriteError: the system does not let one be removed; those before it are gone.
    """
    done = Orphans()
    for orphan in orphans:
        why = _remove(orphan)
        if why is None:
            done.removable.append(orphan)
        else:
            done.skipped.append((orphan.path, why))
    return done


def sweep_removed(folders: Sequence[Path]) -> None:
    """Remove what a run that was killed has left of caches that it removed below folders: the locks it held."""
    for folder in folders:
        for lock in files_below(folder, layout.SUFFIX + LOCK_SUFFIX):
            hidden = any(part.startswith(".") for part in lock.relative_to(folder).parent.parts)
            path = lock.with_name(lock.name.removeprefix(".").removesuffix(LOCK_SUFFIX))
            if lock.name.startswith(".") and not (hidden or lock.is_symlink() or os.path.lexists(path)):
                sweep(path)


def _remove(orphan: Orphan) -> str | None:
    """Remove a cache; why not, if it stays."""
    path = orphan.path
    try:
        with gfcache.output_lock(path):
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                found = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISREG(found.st_mode) or _seen(found) != orphan.seen or not _is_gone(Path(orphan.source)):
                    return CHANGED
                os.unlink(path.name, dir_fd=folder)
            finally:
                os.close(folder)
    except gfcache.CacheLocked:
        return LOCKED
    except FileNotFoundError:
        return CHANGED
    except OSError as error:
        raise gfcache.CacheWriteError(path, error) from error
    return None
