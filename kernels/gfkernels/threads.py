"""How threads that wait for each other wait; imported before torch, whose OpenMP runtime reads the environment once.

The C kernels take the same runtime (native/build.py), which on Linux is GNU's: torch brings it along.
"""

from __future__ import annotations

import os
import sys

SPIN_COUNT = 20_000  # a millisecond
VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def spin_briefly() -> None:
    """Let a thread that waits look for work SPIN_COUNT times before it gives its core away; by default it looks 300,000
    times (13 ms), while the thread that it waits for may wait for that very core.

    Sleeping at once (OMP_WAIT_POLICY=PASSIVE) is better yet beside other work, but on an idle machine halves the speed
    of decoding. Nothing changes where the user has chosen, or torch is loaded already.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in VARIABLES):
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)


spin_briefly()
