"""Advisory locks, gone with the process that held them; one writer per output.

A lock is an empty regular file; whatever else has its name is somebody's, and stays. On a file system without locks
nothing is held and writing goes on, for renames stay atomic; any other error of the system, such as a failing disk, is
one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from gfcache.errors import CacheLocked, CacheWriteError

from .atomic import real_path, remnants_of, remove_remnants, uninterrupted
from .names import fitting
from .regular import NotRegular, open_regular

LOCK_SUFFIX = ".lock"
# What systems say that cannot lock on this file system.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_BUSY = (errno.EWOULDBLOCK, errno.EACCES)
_PAUSE_S = 0.01

# Outputs that threads of this process may write, by the real path of their locks: a holder may enter again (prefill
# locks, save locks), and lend its right to another thread.
_holders: set[tuple[str, threading.Thread]] = set()


def acquire(name: Path, wait_s: float = 0.0) -> int:
    """A descriptor that holds the lock file `name`, made when absent, until it is closed.

    Args:
        wait_s: for somebody else who holds it.

    Raises:
        BlockingIOError: somebody else holds it.
        NotRegular: what has that name is a link, a pipe, or holds something: no lock.
        OSError: as the system says.
    """
    deadline = time.monotonic() + wait_s
    while True:
        handle = open_regular(name, os.O_CREAT | os.O_RDWR)
        try:
            if os.fstat(handle).st_size:
                raise NotRegular(errno.EEXIST, "this file holds something, expected an empty lock", str(name))
            busy = not _lock(handle)
            # The last holder may have removed the file between our open and our lock: nobody else sees this lock then.
            if not busy and _is_file(handle, name):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        if busy:
            if time.monotonic() >= deadline:
                raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), str(name))
            time.sleep(_PAUSE_S)


def _lock(handle: int) -> bool:
    """Lock an open file; False when somebody else holds it. True, too, where there are no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _is_file(handle: int, name: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(name))
    except FileNotFoundError:
        return False


def lock_path(path: Path) -> Path:
    """The lock file of an output: `.NAME.lock` beside it, so that all names of a file have one lock.

    NAME is as `fitting` gives it.
    """
    path = real_path(path)
    return path.with_name(f".{fitting(path.name, 1 + len(LOCK_SUFFIX))}{LOCK_SUFFIX}")


@contextlib.contextmanager
def output_lock(path: Path | str) -> Iterator[None]:
    """Hold the right to write `path`; remnants of writers that were killed are removed.

    Raises:
        CacheLocked: another process or thread writes this file now.
        CacheWriteError: the folder is missing or not writable.
    """
    path = Path(path)
    name = lock_path(path)
    holder = _holder(name)
    if holder in _holders:
        yield
        return
    was_there = os.path.lexists(name)
    handle = None
    try:
        with uninterrupted():
            handle = _acquire(path, name)
            _holders.add(holder)
        if was_there:  # a writer that was killed leaves its lock file, and with it perhaps others
            remove_remnants(real_path(path))
        yield
    finally:
        with uninterrupted():
            if handle is not None:
                _holders.discard(holder)
                with contextlib.suppress(OSError):
                    os.unlink(name)
                os.close(handle)


def is_free(path: Path | str) -> bool:
    """Whether certainly nobody writes an output now: its lock is not there, or can be had. Nothing is changed.

    Where there are no locks, one that is there may be somebody's.
    """
    try:
        handle = open_regular(lock_path(Path(path)))
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def sweep(path: Path | str) -> None:
    """Remove what a writer of an output has left that was killed, or could not remove it or put it back on a failing
    disk; not while somebody writes it.
    """
    real = real_path(Path(path))
    if os.path.lexists(lock_path(Path(path))) or remnants_of(real):
        with contextlib.suppress(CacheLocked, CacheWriteError), output_lock(path):
            remove_remnants(real)


def is_made(path: Path | str) -> bool:
    """Whether an output that is made once is there; what its writer left that was killed right behind it goes."""
    sweep(path)
    return os.path.exists(path)


@contextlib.contextmanager
def lent_lock(path: Path | str) -> Iterator[None]:
    """Write `path` in this thread under the lock that another thread of this process holds until this one is done."""
    holder = _holder(lock_path(Path(path)))
    _holders.add(holder)
    try:
        yield
    finally:
        _holders.discard(holder)


def _holder(name: Path) -> tuple[str, threading.Thread]:
    return os.path.realpath(name), threading.current_thread()


def _acquire(path: Path, name: Path) -> int:
    try:
        return acquire(name)
    except BlockingIOError as error:
        raise CacheLocked(path) from error
    except NotRegular as error:
        raise CacheWriteError(name, error) from error
    except OSError as error:
        raise CacheWriteError(path, error) from error
