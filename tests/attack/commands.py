"""gf commands in forked children of one process that has imported all they need, with faults at chosen calls.

Run as a program it is that process: it takes requests and gives results, one JSON object per line.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
import json
import os
import pkgutil
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from tests.cpu_time import PATIENCE_S

COUNT, KILL, TEAR, FAIL, SIGNAL = range(5)
# Of a child. Its time on the clock says how busy the machine is.
MOST_CPU_S = 120
_LIBRARY = "GF_TEST_FAULTS"


@dataclass(frozen=True)
class Fault:
    """What happens at a call that changes something below `folder`.

    Attributes:
        number: an errno, or of a signal.
        onwards: it happens at all that follow, too.
    """

    folder: str
    how: int = COUNT
    call: int = 0
    number: int = 0
    onwards: bool = False


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code (negative for a signal), its words, the calls that it made (name and path)."""

    code: int
    out: str
    err: str
    calls: tuple[str, ...]


def built(folder: Path) -> Path | None:
    """The library of faults; None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    source = Path(__file__).with_name("faults.c")
    path = folder / f"faults-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(path), str(source), "-ldl"], check=True)
    return path


class Commands:
    """The process that runs commands."""

    def __init__(self, library: Path, environment: dict[str, str]) -> None:
        variables = os.environ | environment | {"LD_PRELOAD": str(library), _LIBRARY: str(library)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.attack.commands"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=variables, cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def __call__(self, *arguments: str, cwd: Path, fault: Fault | None = None, **environment: str) -> Done:
        """Run one command to its end."""
        wanted = {"arguments": arguments, "cwd": str(cwd), "environment": environment}
        done = self._asked(wanted | {"fault": None if fault is None else asdict(fault)})
        return Done(**done | {"calls": tuple(done["calls"])})

    def _asked(self, wanted: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps(wanted), file=process.stdin, flush=True)
        return dict(json.loads(process.stdout.readline()))

    def load(self, modules: Sequence[str]) -> None:
        """Import modules before the commands that need them."""
        self._asked({"modules": list(modules)})

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=PATIENCE_S)


def _import_all() -> None:
    import torch

    from goldfinch.errors import GoldFinchError
    from goldfinch.train.curve import figure_class
    from goldfinch.train.throughput import matrix_rate

    importlib.import_module("gfcli.app")
    importlib.import_module("safetensors.torch")
    goldfinch = importlib.import_module("goldfinch")
    for module in pkgutil.walk_packages(goldfinch.__path__, "goldfinch."):
        if "triton" not in module.name:
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    # What every training takes seconds for otherwise.
    importlib.import_module("torch._dynamo")  # with the first optimizer
    matrix_rate(torch.device("cpu"), torch.float32)
    with contextlib.suppress(GoldFinchError), tempfile.TemporaryFile() as picture:
        figure_class()().savefig(picture, format="png")


def _serve(answers: IO[str]) -> None:
    _import_all()
    for line in sys.stdin:
        wanted = json.loads(line)
        if "modules" in wanted:
            print(json.dumps(_imported(wanted["modules"])), file=answers, flush=True)
        else:
            print(json.dumps(asdict(_run(wanted))), file=answers, flush=True)


def _imported(modules: list[str]) -> dict[str, Any]:
    if any(name.startswith("transformers") for name in modules):
        importlib.import_module("goldfinch.foreign.library").library()  # offline, which it has to be from the start
    for name in modules:
        importlib.import_module(name)
    return {}


def _run(wanted: dict[str, Any]) -> Done:
    texts = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115
    child = os.fork()
    if not child:
        _become(wanted, [text.fileno() for text in texts])
    deadline = time.monotonic() + PATIENCE_S
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, 9)
            deadline += PATIENCE_S
        time.sleep(0.002)
    out, err, calls = (_content(text) for text in texts)
    return Done(os.waitstatus_to_exitcode(ended[1]), out, err, tuple(map(_nameless, calls.splitlines())))


def _nameless(call: str) -> str:
    """A call without what is drawn anew in every run: the process and the letters in temporary names."""
    return re.sub(r"\.gf-\d+-\w{8}\.|\.tmp\w{6}", ".gf-.", call)


def _content(text: IO[bytes]) -> str:
    with text:
        text.seek(0)
        return text.read().decode(errors="replace")


def _become(wanted: dict[str, Any], texts: list[int]) -> None:
    """The child: a gf of its own, from its arguments to its exit code."""
    code = 99
    try:
        from gfcli import app

        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, text in enumerate(texts[:2], 1):
            os.dup2(text, number)
        used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
        resource.setrlimit(resource.RLIMIT_CPU, (used + MOST_CPU_S, used + MOST_CPU_S))
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        os.chdir(wanted["cwd"])
        os.environ.update(wanted["environment"])
        sys.argv = ["gf", *wanted["arguments"]]
        library = ctypes.CDLL(os.environ[_LIBRARY])
        if wanted["fault"] is not None:
            folder, *rest = wanted["fault"].values()
            library.faults_begin(folder.encode(), texts[2], rest[0], ctypes.c_long(rest[1]), *map(int, rest[2:]))
        try:
            app.main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        finally:
            threading._shutdown()  # type: ignore[attr-defined]  # the end of an interpreter waits for files underway
            library.faults_end()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ.pop("LD_PRELOAD", None)
    _serve(channel)
