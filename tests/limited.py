"""Commands in processes of their own, with little memory and time: what a stranger's file may make of them.

Run as a program it loads gf once and then forks a child for each command, so that many cost little more than one.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

# Above what a process has that has imported gf and torch: of the order of the files that the tests make.
MORE_MEMORY_BYTES = 512 << 20
CPU_S = 20
# For a command that waits for ever, however busy the machine is.
WALL_S = 600


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: exit code; negative: the signal that ended it.
        out, err: what it printed.
    """

    code: int
    out: str
    err: str


def run_limited(
    commands: Sequence[Sequence[str]],
    folder: Path,
    loaded: Sequence[str] = (),
    places: Sequence[tuple[Path, Mapping[str, str]]] = (),
) -> list[Ended]:
    """Run each command in a child with limits; what they print goes through files in `folder`.

    Args:
        loaded: more modules that are there before, so that their import counts for no child.
        places: of each command its current folder, and variables of its environment.
    """
    program = subprocess.run(
        [sys.executable, "-m", "tests.limited", str(folder), *loaded],
        input=json.dumps(
            [
                [list(line), *((str(place[0]), dict(place[1])) if place else (None, {}))]
                for line, place in zip_longest(commands, places)
            ]
        ),
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=True,
    )
    codes = json.loads(program.stdout.splitlines()[-1])
    read = [
        [(folder / f"{n}.{kind}").read_text(errors="replace") for kind in ("out", "err")] for n in range(len(codes))
    ]
    return [Ended(code, out, err) for code, (out, err) in zip(codes, read, strict=True)]


def _child(command: list[str], place: str) -> int:
    from gfcli.app import run

    for descriptor, kind in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{place}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + MORE_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    signal.alarm(WALL_S)
    used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    resource.setrlimit(resource.RLIMIT_CPU, (used + CPU_S, used + CPU_S))
    code = run(command)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _main(folder: str, *loaded: str) -> None:
    for module in (*loaded, "tokenizers", "safetensors.torch", "gfcli.app", "gfcli.commands.prefill", "gfcli.commands.model",
                   "goldfinch.weights.writing", "goldfinch.jobs.batch"):  # fmt: skip
        importlib.import_module(module)
    codes = []
    for n, (command, cwd, environment) in enumerate(json.load(sys.stdin)):
        child = os.fork()
        if child == 0:
            code = 70  # a traceback
            try:
                os.environ.update(environment)
                os.chdir(cwd or ".")
                code = _child(command, f"{folder}/{n}")
            finally:
                os._exit(code)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(json.dumps(codes))


if __name__ == "__main__":
    _main(*sys.argv[1:])
