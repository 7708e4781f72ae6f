"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gfcache.errors import CacheWriteError

from .atomic import ASIDE_SUFFIX, folder_beside, real_path, sync_folder, temporary_beside, uninterrupted
from .locks import output_lock

PRIVATE = 0o600


@contextlib.contextmanager
def replacing(path: Path | str, mode: int | None = PRIVATE, *, follow: bool = True) -> Iterator[BinaryIO]:
    """Write a file whole or not at all: a stream to a temporary file beside it, which takes its place after the block.

    Content and name are on the disk then. Where the block or a step fails, an old file is as it was and nothing is
    left. A link is written where it leads.

    Args:
        mode: its permissions; None for those of the file that is there, or what the user gives to new files.
        follow: write a link where it leads; else the file takes the place of the link.

    Raises:
        OSError: as the system says.
    """
    path = real_path(Path(path)) if follow else Path(path)
    with temporary_beside(path) as (handle, temporary):
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            if mode != PRIVATE:
                os.fchmod(stream.fileno(), _usual_mode(path) if mode is None else mode)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    sync_folder(path.parent)


@contextlib.contextmanager
def replacing_output(
    path: Path | str, mode: int | None = PRIVATE, *, follow: bool = True, needed_bytes: int | None = None
) -> Iterator[BinaryIO]:
    """`replacing` under the lock of the output, for the files of this library (mode 0600 by default).

    Args:
        needed_bytes: what the file takes, for the words about a full disk.

    Raises:
        CacheLocked: another process writes this file now.
        CacheWriteError: the folder is missing or not writable, the disk is full, ...
    """
    path = Path(path)
    with output_lock(path):
        try:
            with replacing(path, mode, follow=follow) as stream:
                yield stream
        except OSError as error:
            raise CacheWriteError(path, error, needed_bytes) from error


@contextlib.contextmanager
def replacing_folder(path: Path, *, needed_bytes: int | None = None) -> Iterator[Path]:
    """Write a folder whole or not at all: an empty one beside it (mode 0755), which takes its place after the block.

    The lock of the output is held. No system call swaps two folders everywhere: for a moment neither is there, and a
    process that is killed then leaves the old one aside. The next holder of the lock puts it back.

    Args:
        needed_bytes: what the files in it take, for the words about a full disk.

    Raises:
        CacheLocked: another process writes this folder now.
        CacheWriteError: the system does not let it be written.
    """
    with output_lock(path):
        try:
            with folder_beside(path) as temporary:
                temporary.chmod(0o755)
                yield temporary
                _swap(temporary, path)
        except OSError as error:
            raise CacheWriteError(path, error, needed_bytes) from error


def _swap(new: Path, path: Path) -> None:
    old = new.with_suffix(ASIDE_SUFFIX)
    for file in new.iterdir():
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    with uninterrupted():
        try:
            if path.exists():
                os.replace(path, old)
            os.replace(new, path)
        except OSError:
            if old.exists() and not path.exists():
                os.replace(old, path)
            raise
        sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)


def _usual_mode(path: Path) -> int:
    """The permissions of a file, or those of a new one."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mode & 0o777
    mask = os.umask(0o077)  # it can only be read by setting it
    os.umask(mask)
    return 0o666 & ~mask
