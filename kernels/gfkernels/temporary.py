"""Folders for what is compiled anew in each process, locked by it: the next one sweeps those of processes that died."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# An empty file in each folder, which its process holds.
LOCK = ".lock"
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A new folder for this user alone in the system's place for temporary files, removed after the block.

    Args:
        prefix: of its name; a new one belongs to no other program.

    Raises:
        OSError: as the system says.
    """
    _sweep(prefix)
    path, handle = _made(prefix)
    try:
        yield Path(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(handle)


def _made(prefix: str) -> tuple[str, int]:
    while True:
        path = tempfile.mkdtemp(prefix=prefix)
        with contextlib.suppress(FileNotFoundError):  # swept by another process before there was a lock in it
            handle = os.open(os.path.join(path, LOCK), _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
            with contextlib.suppress(OSError):  # some file systems have no locks: nobody sweeps there
                fcntl.flock(handle, fcntl.LOCK_EX)
            if os.path.exists(path):
                return path, handle
            os.close(handle)


def _sweep(prefix: str) -> None:
    """Remove this user's folders whose processes have gone; one without their lock is somebody's, if not empty."""
    name = re.compile(rf"{re.escape(prefix)}[a-z0-9_]{{8}}")
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if name.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                        _remove(entry.path)


def _remove(path: str) -> None:
    try:
        handle = os.open(os.path.join(path, LOCK), _OPEN)
    except FileNotFoundError:
        os.rmdir(path)
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(handle)
