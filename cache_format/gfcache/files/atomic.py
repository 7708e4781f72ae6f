"""Steps that an interrupt may not part: a file exists and its remover knows of it, or neither."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from .names import fitting

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# What tempfile puts between prefix and suffix.
_RANDOM_BYTES = 8
TEMPORARY_SUFFIX = ".tmp"
# Of the name of a temporary file, beside that of its output; a process has up to seven digits.
_MORE_BYTES = len(".") + len(".gf-1234567-") + _RANDOM_BYTES + len(TEMPORARY_SUFFIX)
# Behind the name of a folder that another one replaces.
ASIDE_SUFFIX = ".old"


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP raise after the block instead of in it; for short steps that wait for nothing.

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

    So whoever holds the output's lock knows what a writer that was killed has left. Of a name too long for more to
    follow it is what `fitting` gives.
    """
    return f".{fitting(path.name, _MORE_BYTES)}.gf-{os.getpid()}-"


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
            with uninterrupted(), contextlib.suppress(OSError):
                os.unlink(temporary)


@contextlib.contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A new empty folder (mode 0700) in the folder of `path`, to be renamed to it or emptied; removed when it was not.

    Raises:
        OSError: as the system says.
    """
    temporary = None
    try:
        with uninterrupted():
            prefix = temporary_prefix(path)
            temporary = Path(tempfile.mkdtemp(prefix=prefix, suffix=TEMPORARY_SUFFIX, dir=path.parent))
        yield temporary
    finally:
        if temporary is not None:
            with uninterrupted():  # else a signal leaves what it was to remove
                shutil.rmtree(temporary, ignore_errors=True)


def remnants_of(path: Path) -> list[os.DirEntry[str]]:
    """Temporary files and folders of an output, as its writer has them, or a killed one left them."""
    name, endings = fitting(path.name, _MORE_BYTES), f"{TEMPORARY_SUFFIX}|{ASIDE_SUFFIX}".replace(".", r"\.")
    # Without the dots that names have: `.doc.gfc.x.tmp` is no remnant of an output `doc`.
    remnant = re.compile(rf"\.{re.escape(name)}\.gf-\d+-[a-z0-9_]{{{_RANDOM_BYTES}}}({endings})")
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        return [entry for entry in entries if remnant.fullmatch(entry.name)]
    return []


def remove_remnants(path: Path) -> None:
    """Remove temporary files and folders of an output whose writer was killed; a folder that was aside is put back.

    Nobody else may be writing the output.
    """
    with contextlib.suppress(OSError):
        for entry in sorted(remnants_of(path), key=lambda entry: not entry.name.endswith(ASIDE_SUFFIX)):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
            elif entry.name.endswith(ASIDE_SUFFIX) and not os.path.lexists(path):
                os.replace(entry.path, path)
            else:
                with uninterrupted():
                    shutil.rmtree(entry.path, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make a rename durable where the system lets a folder be synced."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
