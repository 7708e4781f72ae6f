"""Steps that an interrupt may not part: a file exists and its remover knows of it, or neither."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
# The longest name of a file, and what tempfile puts between prefix and suffix.
_MOST_BYTES, _RANDOM_BYTES = 255, 8
TEMPORARY_SUFFIX = ".tmp"


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise after the block instead of in it; for short steps that wait for nothing.

    Python runs signal handlers in the main thread only, so there is nothing to do in others. A signal that is ignored
    or ends the process at once stays as it is.
    """
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: handler for number in _INTERRUPTS if callable(handler := signal.getsignal(number))}
    arrived: list[int] = []
    try:
        for number in handlers:
            signal.signal(number, lambda number, _: arrived.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for sent in arrived:
            handlers[signal.Signals(sent)](sent, None)


def real_path(path: Path) -> Path:
    """The file that is written for an output: a link is followed, and stays."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def temporary_prefix(path: Path) -> str:
    """How the names of temporary files and folders of an output begin: `.NAME.gf-PID-`, before `xxxxxxxx.tmp`.

    So whoever holds the output's lock knows what a writer that was killed has left. A name too long for more to follow
    goes without the process.
    """
    prefix = f".{path.name}.gf-{os.getpid()}-"
    longest = len(os.fsencode(prefix)) + _RANDOM_BYTES + len(TEMPORARY_SUFFIX)
    return prefix if longest <= _MOST_BYTES else f".{path.name}."


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[tuple[int, str]]:
    """A new file (mode 0600) in the folder of `path`, to be renamed to it; removed when it was not.

    Returns:
        its descriptor, open for writing, which the caller closes, and its name.

    Raises:
        OSError: as the system says.
    """
    temporary = None
    try:
        with uninterrupted():
            prefix = temporary_prefix(path)
            handle, temporary = tempfile.mkstemp(prefix=prefix, suffix=TEMPORARY_SUFFIX, dir=path.parent)
        yield handle, temporary
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def remove_remnants(path: Path) -> None:
    """Remove temporary files of an output whose writer was killed. Nobody else may be writing it."""
    # Without the dots that names have: `.doc.gfc.x.tmp` is no remnant of an output `doc`.
    remnant = re.compile(rf"\.{re.escape(path.name)}\.[^.]+{re.escape(TEMPORARY_SUFFIX)}")
    with contextlib.suppress(OSError):
        for entry in os.scandir(path.parent):
            if remnant.fullmatch(entry.name):
                os.unlink(entry.path)


def sync_folder(folder: Path) -> None:
    """Make a rename durable where the system lets a folder be synced."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
