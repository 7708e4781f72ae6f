"""Faults between the system calls of a write: the calls themselves are watched, the product has no hook for it."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Callable
from typing import Any

import pytest

# Calls that a write makes, in order; folders are opened and synced last.
CALLS = ("fcntl.flock", "tempfile.mkstemp", "os.fdopen", "os.fsync", "os.replace", "os.unlink")


def watch(patch: pytest.MonkeyPatch, act: Callable[[str], None]) -> None:
    """Call `act` with a name before each system call of a write and each piece written, and after each."""

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            act(f"before {name}")
            result = real(*arguments, **named)
            act(f"after {name}")
            return result

        return call

    class Stream(io.BufferedWriter):
        """What os.fdopen gives, watched."""

        def write(self, data: Any) -> int:
            act("before write")
            done = super().write(data)
            self.flush()  # so that a process that ends here leaves a part
            act("after write")
            return done

    def opened(handle: int, mode: str) -> io.BufferedWriter:
        assert mode == "wb"
        return Stream(io.FileIO(handle, "wb"))

    for name in CALLS:
        module, _, attribute = name.partition(".")
        real = opened if attribute == "fdopen" else getattr(importlib.import_module(module), attribute)
        patch.setattr(name, watched(attribute, real))


def names_of_steps(action: Callable[[], object]) -> list[str]:
    """The steps of a write, in order."""
    names: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, names.append)
        action()
    return names


def act_at(step: int, act: Callable[[], None]) -> Callable[[str], None]:
    """Act at one step."""
    seen = [0]

    def hook(name: str) -> None:
        seen[0] += 1
        if seen[0] == step + 1:
            act()

    return hook


def in_child(action: Callable[[], object]) -> int:
    """Exit code of `action` in a forked process."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except BaseException:
            os._exit(99)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
