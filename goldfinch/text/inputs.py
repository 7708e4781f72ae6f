"""Bytes of what a user names: regular files, and pipes for as long as somebody writes, up to a limit. No torch.

`<(command)` of a shell is a pipe with a name. A device, and a file that a kernel makes up (/proc, /sys), may never end
or mean something else at each reading; they are refused before they are opened.
"""

from __future__ import annotations

import contextlib
import os
import queue
import stat
import sys
import threading
from pathlib import Path

from gfcache.files.regular import not_regular, read_at_most

from goldfinch.errors import InputRefused

# Of a document, a list of documents, a file of questions. A gibibyte of text is some 250 million tokens.
MOST_DOCUMENT_BYTES = 1 << 30
MOST_LIST_BYTES = 1 << 26
# How long a pipe may have no writer.
PIPE_WAIT_S = 30.0
_MADE_UP = ("/proc/", "/sys/")


def read_stdin(most_bytes: int) -> bytes:
    """All of standard input.

    Raises:
        InputRefused: more bytes than that.
    """
    return _limited(read_at_most(sys.stdin.buffer, most_bytes + 1), most_bytes, "stdin")


def read_named(path: Path, most_bytes: int) -> bytes:
    """All of a file or pipe that the user names.

    Raises:
        InputRefused: more bytes than that; a device; a file of /proc or /sys; a pipe that nobody writes to.
        OSError: as the system says.
    """
    found = os.stat(path)
    if stat.S_ISFIFO(found.st_mode):
        handle = _open_pipe(path)
    else:
        check_not_made_up(path)
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(handle, "rb") as stream:
        mode = os.fstat(handle).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or os.isatty(handle)):
            raise _refused(path, mode)
        os.set_blocking(handle, True)
        return _limited(read_at_most(stream, most_bytes + 1), most_bytes, str(path))


def check_not_made_up(path: Path) -> None:
    """Refuse a device, and what a kernel makes up as it is read.

    Raises:
        InputRefused: as said.
        OSError: as the system says.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and not _is_terminal(path)):
        raise _refused(path, mode)
    if stat.S_ISREG(mode) and os.path.realpath(path).startswith(_MADE_UP):
        raise InputRefused(f"{path} is made up by the system as it is read, expected a file")


def _is_terminal(path: Path) -> bool:
    """Whether a device is a terminal, from its number: 4 and 5 are terminals and consoles, 136 to 143 emulated ones."""
    return os.major(os.stat(path).st_rdev) in (4, 5, *range(136, 144))


def _refused(path: Path, mode: int) -> InputRefused:
    return InputRefused(f"{path}: {not_regular(path, mode).strerror}")


def _limited(data: bytes, most_bytes: int, label: str) -> bytes:
    if len(data) > most_bytes:
        raise InputRefused(f"{label} has more than {most_bytes:,} bytes, the most that is read")
    return data


def _open_pipe(path: Path) -> int:
    """Open a pipe for reading, which lasts until somebody opens it for writing."""
    opened: queue.Queue[int | OSError] = queue.Queue()

    def opening() -> None:
        try:
            opened.put(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            opened.put(error)

    threading.Thread(target=opening, daemon=True).start()
    try:
        found = opened.get(timeout=PIPE_WAIT_S)
    except queue.Empty:
        with contextlib.suppress(OSError, queue.Empty):
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))  # lets the thread go on
            late = opened.get(timeout=1.0)
            if isinstance(late, int):
                os.close(late)
        raise InputRefused(f"{path} is a pipe that nobody has written to for {PIPE_WAIT_S:g} s") from None
    if isinstance(found, OSError):
        raise found
    return found
