"""How long something takes, to be compared with something else that is measured in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable

# What hangs for ever is ended; what takes a second may take minutes on a busy machine.
PATIENCE_S = 600.0


def least_cpu_s(work: Callable[[], object], tries: int = 3) -> float:
    """CPU seconds of the quickest of several tries: a collection of all garbage of the session may fall into one."""
    found = []
    for _ in range(tries):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)
