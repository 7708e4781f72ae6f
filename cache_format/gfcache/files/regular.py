"""Opening what anybody may have put there: regular files alone, without waiting, with a limit, never through a link."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_PIECE_BYTES = 1 << 20
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class NotRegular(OSError):
    """A path that leads to something else than a regular file."""


class TooLarge(OSError):
    """A file with more bytes than its reader takes."""


def open_regular(path: Path | str, flags: int = os.O_RDONLY, *, follow: bool = False, mode: int = 0o600) -> int:
    """A descriptor of a regular file: a pipe, a device and, unless `follow`, a link are refused at once.

    Raises:
        NotRegular: as said.
        OSError: as the system says.
    """
    found = os.stat(path) if follow else _found(path)
    if found is not None:
        _check(path, found)
    try:
        handle = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW), mode)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise not_regular(path, stat.S_IFLNK) from error
        raise
    try:
        _check(path, os.fstat(handle))  # what lies there now
    except BaseException:
        os.close(handle)
        raise
    return handle


def read_regular(path: Path | str, most_bytes: int, *, follow: bool = True) -> bytes:
    """All of a regular file.

    Raises:
        NotRegular, TooLarge: as said.
        OSError: as the system says.
    """
    with os.fdopen(open_regular(path, follow=follow), "rb") as stream:
        data = read_at_most(stream, most_bytes + 1)
    if len(data) > most_bytes:
        raise TooLarge(errno.EFBIG, f"more than {most_bytes:,} bytes, the most that is read here", str(path))
    return data


def read_at_most(stream: BinaryIO, most_bytes: int) -> bytes:
    """Bytes up to the end or to a limit, in memory of their own size: `read(limit)` asks for all of the limit first."""
    pieces, left = [], most_bytes
    while left > 0 and (piece := stream.read(min(left, _PIECE_BYTES))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def starts_with(path: Path | str, magic: bytes, *, folder: int | None = None) -> bool:
    """Whether a regular file begins as one of ours: with `magic`, or as a run cut short leaves it, empty or of zeros.

    Args:
        folder: descriptor of the folder that `path` lies in; None for a path of its own.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=folder)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return False
        start = os.read(handle, len(magic))
    finally:
        os.close(handle)
    return magic.startswith(start) or not any(start)


def not_regular(path: Path | str, mode: int) -> NotRegular:
    """The error for what is no regular file."""
    kind = _KINDS.get(stat.S_IFMT(mode), "no file")
    return NotRegular(errno.EINVAL, f"this is {kind}, expected a regular file", str(path))


def _found(path: Path | str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _check(path: Path | str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise not_regular(path, found.st_mode)
