"""Folders for the length of a block in the system's place for temporary files, each under a lock of its own."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .atomic import uninterrupted
from .locks import LOCK_SUFFIX, acquire, is_free, lock_path

_RANDOM_BYTES = 8
_LOCK = re.compile(rf"\.(gf-[a-z]+-[0-9a-f]{{{2 * _RANDOM_BYTES}}}){re.escape(LOCK_SUFFIX)}")
# For one that sweeps and looks whether a new lock is somebody's.
_WAIT_S = 10.0


@contextlib.contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """A new folder for this user alone, `gf-PURPOSE-RANDOM`, removed after the block.

    What processes have left that were killed, for whatever purpose, is swept first: their locks are nobody's.

    Args:
        purpose: small letters.

    Raises:
        OSError: as the system says.
    """
    place = Path(tempfile.gettempdir())
    _sweep(place)
    path = place / f"gf-{purpose}-{secrets.token_hex(_RANDOM_BYTES)}"
    with _held(path, _WAIT_S):
        path.mkdir(mode=0o700)
        yield path


@contextlib.contextmanager
def _held(path: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock of a temporary folder; both are gone after the block."""
    lock = lock_path(path)
    handle = None
    try:
        with uninterrupted():
            handle = acquire(lock, wait_s)
        yield
    finally:
        if handle is not None:
            with uninterrupted():
                shutil.rmtree(path, ignore_errors=True)
                with contextlib.suppress(OSError):
                    os.unlink(lock)
                os.close(handle)


def _sweep(place: Path) -> None:
    """Remove this user's folders whose owners have gone; one without its lock is somebody's, whatever its name."""
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        paths = [place / found[1] for entry in entries if (found := _LOCK.fullmatch(entry.name))]
        for path in paths:
            if _is_own(lock_path(path)) and is_free(path):
                with contextlib.suppress(OSError), _held(path):
                    pass


def _is_own(lock: Path) -> bool:
    """Whether a lock is this user's own file: in a folder of everybody's, others may make what has its name."""
    try:
        found = lock.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
