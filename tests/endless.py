"""What never ends when it is read, in the place of a file, and a guard so that a test that reads it fails."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

# A busy machine takes longer for much; what waits for ever takes longer than that.
MOST_S = 300


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Raise TimeoutError in a block that waits for ever; in the main thread, whose system calls it interrupts."""

    def over(number: int, frame: object) -> None:
        raise TimeoutError(f"more than {MOST_S} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(MOST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def put(path: Path, kind: str) -> None:
    """Put a pipe that nobody writes to, or a link to a device without an end, in the place of a file."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")


KINDS = ("pipe", "device")
