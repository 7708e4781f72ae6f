"""How far a run over many documents is, or one that trains."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from goldfinch.jobs.sources import STDIN, Source, Sources

from .console import console, printable
from .values import show_age, show_bytes


class BatchProgress:
    """Documents, bytes and time left on one line of the terminal; silent elsewhere."""

    def __init__(self, sources: Sources) -> None:
        self._sizes = {source.name: _size(source.name) for source in sources.documents}
        self._count, self._begun, self._done, self._now = len(sources.documents), 0, 0, 0
        self._bar: Any = None

    def __enter__(self) -> BatchProgress:
        if console.quiet or not sys.stderr.isatty():
            return self
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.fields[place]}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[bytes]}", markup=False),
            TimeRemainingColumn(),
            console=RichConsole(stderr=True),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        )
        total = max(sum(self._sizes.values()), 1)
        self._task = self._bar.add_task("", total=total, place="", bytes="")
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, source: Source) -> None:
        """The next document."""
        self._done += self._now
        self._now, self._begun = self._sizes[source.name], self._begun + 1
        self.within(0, 1)

    def within(self, done: int, total: int) -> None:
        """How far the present document is."""
        if self._bar is None:
            return
        completed = self._done + self._now * done / max(total, 1)
        place = f"{self._begun}/{self._count} documents"
        amount = f"{show_bytes(completed)} of {show_bytes(self._bar.tasks[0].total)}"
        self._bar.update(self._task, completed=completed, place=place, bytes=amount)


class DocumentProgress:
    """Documents done, of how many, on one line of the terminal; silent elsewhere, and where nothing is to be done."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: Any = None
        self._visible = not console.quiet and sys.stderr.isatty()

    def __enter__(self) -> DocumentProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None:
            if not self._visible:
                return
            self._start()
        self._bar.update(self._task, completed=done, total=total)

    def end(self) -> None:
        """Clear the line."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _start(self) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=RichConsole(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(self._what, total=None)
        self._bar.start()


def _size(name: str) -> int:
    try:
        return 0 if name == STDIN else os.path.getsize(name)
    except OSError:
        return 0


class TrainingProgress:
    """A bar with the loss and the time left on a terminal; elsewhere every log entry as a line of JSON.

    Attributes:
        step: of the last entry, 0 before the first.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self.step = 0

    def __enter__(self) -> TrainingProgress:
        if not console.quiet and sys.stderr.isatty():
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                MofNCompleteColumn(),
                BarColumn(),
                TextColumn("{task.fields[figures]}", markup=False),
                TimeRemainingColumn(),
                console=RichConsole(stderr=True),
            )
            self._task = self._bar.add_task("", total=None, figures="first steps")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def report(self, entry: dict[str, Any]) -> None:
        """One entry of the log."""
        self.step = entry["step"]
        if self._bar is None:
            console.say(json.dumps(entry))
            return
        figures = f"loss {entry['loss']:.2f}, answers {entry['answer_loss']:.2f}, {entry['tok_s']:,} tok/s"
        self._bar.update(self._task, completed=entry["step"], total=entry["of"], figures=figures)


class ComparisonProgress:
    """What is measured, and the time left, on one line of the terminal; elsewhere a line for each document."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __enter__(self) -> ComparisonProgress:
        if not console.quiet and sys.stderr.isatty():
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[left]}", markup=False),
                console=RichConsole(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=None, left="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, words: str, spent_s: float, total_s: float | None) -> None:
        """What begins now, and how far everything is.

        Args:
            words: what it is.
            spent_s, total_s: seconds that it took until now, and those that it will take, None where nobody knows.
        """
        left = "" if total_s is None else f"{show_age(max(total_s - spent_s, 0.0))} left"
        if self._bar is None:
            console.say(f"{words} ({show_age(spent_s)} so far{left and ', about '}{left})")
            return
        self._bar.update(self._task, description=printable(words), completed=spent_s, total=total_s, left=left)
