"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gfcache.errors import CacheWriteError

from .atomic import TEMPORARY_SUFFIX, real_path, sync_folder, temporary_beside, temporary_prefix, uninterrupted
from .locks import output_lock

# Behind the name of a folder that another one replaces.
_ASIDE = ".old"
PRIVATE = 0o600


@contextlib.contextmanager
def replacing(path: Path | str, mode: int | None = PRIVATE) -> Iterator[BinaryIO]:
    """Write a file whole or not at all: a stream to a temporary file beside it, which takes its place after the block.

    Content and name are on the disk then. Where the block or a step fails, an old file is as it was and nothing is
    left. A link is written where it leads.

    Args:
        mode: its permissions; None for those of the file that is there, or what the user gives to new files.

    Raises:
        OSError: as the system says.
    """
    path = real_path(Path(path))
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
def replacing_output(path: Path | str) -> Iterator[BinaryIO]:
    """`replacing` under the lock of the output, for the files of this library (mode 0600).

    Raises:
        CacheLocked: another process or thread writes this file now.
        CacheWriteError: the folder is missing or not writable, the disk is full, ...
    """
    path = Path(path)
    with output_lock(path):
        try:
            with replacing(path) as stream:
                yield stream
        except OSError as error:
            raise CacheWriteError(path, error) from error


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Write a folder whole or not at all: an empty one beside it (mode 0755), which takes its place after the block.

    No system call swaps two folders everywhere: for a moment neither is there, and a process that is killed then leaves
    the old one aside. `restore_folder` puts it back.

    Raises:
        OSError: as the system says.
    """
    temporary = None
    try:
        with uninterrupted():
            prefix = temporary_prefix(path)
            temporary = Path(tempfile.mkdtemp(prefix=prefix, suffix=TEMPORARY_SUFFIX, dir=path.parent))
        temporary.chmod(0o755)
        yield temporary
        _swap(temporary, path)
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, path: Path) -> None:
    old = new.with_suffix(_ASIDE)
    try:
        if path.exists():
            os.replace(path, old)
        os.replace(new, path)
    except BaseException:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def restore_folder(path: Path) -> None:
    """Put back or remove what a writer that was killed left beside a folder. Nobody else may be writing it."""
    remnant = re.compile(rf"\.{re.escape(path.name)}\.(gf-[a-z0-9_-]+(\.tmp|\.old)?|[a-z0-9_]{{8}}(\.tmp|\.old))")
    for entry in (
        sorted(path.parent.iterdir(), key=lambda entry: entry.suffix != _ASIDE) if path.parent.is_dir() else []
    ):
        if not (entry.is_dir() and remnant.fullmatch(entry.name)):
            continue
        if entry.suffix == _ASIDE and not path.exists():
            os.replace(entry, path)
        else:
            shutil.rmtree(entry, ignore_errors=True)


def _usual_mode(path: Path) -> int:
    """The permissions of a file, or those of a new one."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mode & 0o777
    mask = os.umask(0o077)  # it can only be read by setting it
    os.umask(mask)
    return 0o666 & ~mask
