"""One writer per output: an advisory lock beside the file, gone with the process that held it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from gfcache.errors import CacheLocked, CacheWriteError

from .atomic import uninterrupted

# (real path of the lock file, thread) of locks that are held: a holder may enter again (prefill locks, save locks).
_held: set[tuple[str, int]] = set()
# What systems say that cannot lock on this file system. Writing goes on: renames stay atomic.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


def real_path(path: Path) -> Path:
    """The file that is written for an output: a link is followed, and stays."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def lock_path(path: Path) -> Path:
    """The lock file of an output: `.NAME.lock` beside it, so that all names of a file have one lock."""
    path = real_path(path)
    return path.with_name(f".{path.name}.lock")


@contextlib.contextmanager
def output_lock(path: Path | str) -> Iterator[None]:
    """Hold the right to write `path`; remnants of writers that were killed are removed.

    Raises:
        CacheLocked: another process or thread writes this file now.
        CacheWriteError: the folder is missing or not writable.
    """
    path = Path(path)
    name = lock_path(path)
    key = (os.path.realpath(name), threading.get_ident())
    if key in _held:
        yield
        return
    was_there = name.exists()
    handle = None
    try:
        with uninterrupted():
            handle = _acquire(path, name)
            _held.add(key)
        if was_there:  # a writer that was killed leaves its lock file, and with it perhaps others
            _remove_remnants(real_path(path))
        yield
    finally:
        with uninterrupted():
            if handle is not None:
                _held.discard(key)
                with contextlib.suppress(OSError):
                    os.unlink(name)
                os.close(handle)


@contextlib.contextmanager
def lent_lock(path: Path | str) -> Iterator[None]:
    """Write `path` in this thread under the lock that another thread of this process holds until this one is done."""
    key = (os.path.realpath(lock_path(Path(path))), threading.get_ident())
    _held.add(key)
    try:
        yield
    finally:
        _held.discard(key)


def _acquire(path: Path, name: Path) -> int:
    while True:
        try:
            handle = os.open(name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CacheWriteError(path, error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return handle
            os.close(handle)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise CacheLocked(path) from error
            raise CacheWriteError(path, error) from error
        # The last holder may have removed the file between our open and our lock: then nobody else sees this lock.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(name)):
                return handle
        os.close(handle)


def _remove_remnants(path: Path) -> None:
    """Temporary files of this output whose writer was killed: nobody else can be writing now."""
    # Without the dots that names have: `.doc.gfc.x.tmp` is no remnant of an output `doc`.
    remnant = re.compile(rf"\.{re.escape(path.name)}\.[^.]+\.tmp")
    with contextlib.suppress(OSError):
        for entry in os.scandir(path.parent):
            if remnant.fullmatch(entry.name):
                os.unlink(entry.path)
