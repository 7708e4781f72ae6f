"""How long something takes, to be compared with something else that is measured in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable


def least_cpu_s(work: Callable[[], object], tries: int = 3) -> float:
    """CPU seconds of the quickest of several tries: a collection of all garbage of the session may fall into one."""
    found = []
    for _ in range(tries):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)
