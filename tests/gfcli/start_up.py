"""How long a command takes to start, beside what it cannot do without: nothing here depends on the machine's speed."""

from __future__ import annotations

import subprocess
import sys
import time

# What every light command needs, and no more: the interpreter, the command-line parser, arrays, the index.
NEEDED = "import numpy, sqlite3, typer, zstandard"


def start_up_ratio(*arguments: str) -> float:
    """Seconds of a command over seconds of the imports alone, each the best of several runs in turn."""
    commands = ([sys.executable, "-m", "gfcli", *arguments], [sys.executable, "-c", NEEDED])
    best = [float("inf"), float("inf")]
    for _ in range(7):
        for i, command in enumerate(commands):
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            best[i] = min(best[i], time.perf_counter() - started)
    return best[0] / best[1]
