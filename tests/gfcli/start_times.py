"""How long commands take to start, beside the libraries that none of them can do without."""

from __future__ import annotations

import subprocess
import sys
import time

LIBRARIES = "import typer, numpy, zstandard"
MOST = 3.0  # measured: 2.0; with torch 15
ROUNDS = 20


def starts_fast(*arguments: str) -> None:
    """Fail unless a command of gf starts in MOST times what importing LIBRARIES takes here and now.

    The two are measured in turn and the fastest of each count: other work on the machine slows both, and only ever slows.
    """
    ours, theirs = [], []
    for _ in range(ROUNDS):
        theirs.append(_seconds("-c", LIBRARIES))
        ours.append(_seconds("-m", "gfcli", *arguments))
        if min(ours) < MOST * min(theirs):
            return
    raise AssertionError((arguments, ours, theirs))


def _seconds(*arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - started
