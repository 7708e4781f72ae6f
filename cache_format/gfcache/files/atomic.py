"""Steps that an interrupt may not part: a file exists and its remover knows of it, or neither."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


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
            handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        yield handle, temporary
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
