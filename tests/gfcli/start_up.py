"""How long a command takes to start, beside what it cannot do without: nothing here depends on the machine's speed."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

# What every light command needs, and no more: the interpreter, the command-line parser, arrays, the index.
NEEDED = "import numpy, sqlite3, typer, zstandard"


MOST_RUNS, LEAST_RUNS = 7, 2


def _children_s() -> float:
    """CPU seconds of the processes that this one has waited for."""
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def start_up_ratio(*arguments: str, limit: float) -> float:
    """CPU time of a command over that of the imports alone, each the best of several runs in turn.

    Other work on the machine counts for neither. It ends once the ratio is below the limit: more runs are for a machine that was busy meanwhile.
    """
    commands = ([sys.executable, "-m", "gfcli", *arguments], [sys.executable, "-c", NEEDED])
    best = [float("inf"), float("inf")]
    for run in range(1, MOST_RUNS + 1):
        for i, command in enumerate(commands):
            started = _children_s()
            subprocess.run(command, check=True, capture_output=True)
            best[i] = min(best[i], _children_s() - started)
        if run >= LEAST_RUNS and best[0] < limit * best[1]:
            break
    return best[0] / best[1]


def check_light(*commands: list[str]) -> None:
    """Run commands in a process of their own, and see that none has loaded what takes long."""
    code = (
        "import json, sys; from gfcli.app import run\n"
        "for line in json.loads(sys.argv[1]):\n"
        "    code = run(line)\n"
        "    heavy = {'torch', 'triton', 'tokenizers', 'safetensors'} & set(sys.modules)\n"
        "    assert not code and not heavy, (line, code, heavy)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
