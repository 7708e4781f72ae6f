"""Words on stderr: errors, warnings, progress. stdout belongs to data."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import Any

from . import exits


def printable(text: str, kept: str = "") -> str:
    """Text that others may have written, a cache file for instance, without what would steer a terminal."""
    return "".join(c if c.isprintable() or c in kept else "?" for c in text)


class Console:
    """How this run speaks.

    Attributes:
        json_errors: errors as one JSON object.
        debug: tracebacks too.
        quiet: no progress and no remarks (errors and warnings stay).
        verbose: also what was found and decided on the way.
    """

    def __init__(self) -> None:
        self.json_errors = self.debug = self.quiet = self.verbose = False

    def error(self, error: BaseException) -> int:
        """Print an error and return its exit code."""
        code = exits.exit_code(error)
        message, hint = exits.describe(error)
        if self.debug:
            import traceback

            traceback.print_exception(error)
        if self.json_errors:
            values: dict[str, Any] = {"code": code, "message": message}
            if hint:
                values["hint"] = hint
            print(json.dumps(values), file=sys.stderr)
        else:
            self._print(f"error: {message}")
            if hint:
                self._print(f"hint: {hint}")
        return code

    def warn(self, message: str) -> None:
        self._print(f"warning: {message}")

    def say(self, message: str) -> None:
        if not self.quiet:
            self._print(message)

    def detail(self, message: str) -> None:
        if self.verbose:
            self._print(message)

    def _print(self, message: str) -> None:
        print(printable(message, "\n"), file=sys.stderr)

    def progress(self, label: str) -> TokenProgress:
        """A progress bar over tokens; silent unless stderr is a terminal."""
        return TokenProgress(label, visible=not self.quiet and sys.stderr.isatty())


class TokenProgress:
    """tokens, tok/s and time left on one line of the terminal."""

    def __init__(self, label: str, visible: bool) -> None:
        self._bar: Any = None
        self._started = time.perf_counter()
        if visible:
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f} tokens"),
                TextColumn("{task.fields[rate]:,.0f} tok/s"),
                TimeRemainingColumn(),
                console=RichConsole(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(label, total=0, rate=0.0)

    def __call__(self, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.start()  # not earlier: what is there already shows nothing
            elapsed = max(time.perf_counter() - self._started, 1e-9)
            self._bar.update(self._task, completed=done, total=total, rate=done / elapsed)

    def __enter__(self) -> TokenProgress:
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


console = Console()
