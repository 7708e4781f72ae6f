"""What became of the files of a run: failures are named, the others go on, and a summary ends it."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from typing import Any

import typer

from goldfinch.jobs.events import Failed, PassedOver, Skipped, Written
from goldfinch.jobs.sources import Sources

from .console import console
from .events import status_of
from .exits import SOME_FAILED, CommandError, describe, exit_code
from .values import counted

MOST_FAILURES_SHOWN = 20


class Failures:
    """Files that failed while the others went on.

    Attributes:
        codes: (name, exit code) of each.
    """

    def __init__(self) -> None:
        self.codes: list[tuple[str, int]] = []

    def __len__(self) -> int:
        return len(self.codes)

    def note(self, name: str, error: Exception, *, say: bool = True, about: str = "") -> dict[str, Any]:
        """Note a failure and say which file it is about.

        Args:
            name: of the file.
            say: on stderr; where stdout has it, nothing more is said.
            about: what comes before the name.

        Returns:
            code and message, as JSON holds them.
        """
        code = exit_code(error)
        self.codes.append((name, code))
        message, hint = describe(error)
        if say:
            text = about + (message if name in message else f"{name}: {message}")
            named = error if text == message else CommandError(text, code=code, hint=hint)
            if named is not error:
                named.__cause__ = error
            console.error(named)
        cause: BaseException | None = error
        while cause is not None:  # frames would keep what they hold, caches for instance, for the rest of the run
            traceback.clear_frames(cause.__traceback__)
            cause = cause.__cause__
        return {"code": code, "message": message}

    def end(self) -> None:
        """End the command when some failed.

        Raises:
            typer.Exit: exit 3.
        """
        if self.codes:
            raise typer.Exit(SOME_FAILED)


class Tally:
    """Counts of a run over documents, from its beginning on.

    Attributes:
        failures: documents that failed.
        counts: documents by status, without those that failed.
        tokens: of the documents that were computed.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self.failures = Failures()
        self.counts: Counter[str] = Counter()
        self.tokens = 0
        self._fresh_s = 0.0
        self._started = time.perf_counter()

    def note(self, event: Written | PassedOver) -> None:
        """Note a document that did not fail."""
        self.counts[status_of(type(event))] += 1
        if isinstance(event, Written):
            self.tokens += event.report.tokens
        else:
            self._fresh_s += event.report.seconds

    def skipped(self, event: Skipped) -> None:
        """Note a file of a folder that turned out to hold no text."""
        self.counts["skipped"] += 1
        console.detail(f"{event.source.name}: skipped: {event.reason}")

    def failed(self, event: Failed, *, say: bool) -> dict[str, Any]:
        """Note a failure; its object for JSON."""
        if event.undone is not None:
            self.counts[status_of(event.undone)] -= 1
        name = event.source.name
        return {"source": name, "status": "failed", "error": self.failures.note(name, event.error, say=say)}

    def show(self) -> None:
        """The summary."""
        elapsed = time.perf_counter() - self._started
        failures = self.failures.codes
        parts = [f"{self.counts['ok']} pre-filled"]
        if self.counts["fresh"]:
            parts.append(f"{self.counts['fresh']} fresh")
        skipped = len(self._sources.skipped) + self.counts["skipped"]
        if skipped:
            parts.append(f"{skipped} skipped (empty, or not text)")
        if failures:
            parts.append(f"{len(failures)} of {counted(len(self._sources.documents), 'document')} failed")
        # What reads no tokens is no part of the rate: to compile kernels, and to verify caches that are fresh.
        reading_s = max(elapsed - self._fresh_s - console.compiling_s, 1e-9)
        rate = f", {self.tokens / reading_s:,.0f} tok/s" if self.tokens else ""
        console.say(f"{', '.join(parts)}; {self.tokens:,} tokens in {elapsed:,.1f} s{rate}")
        for name, code in failures[:MOST_FAILURES_SHOWN]:
            console.say(f"  failed: {name} (exit {code})")
        if len(failures) > MOST_FAILURES_SHOWN:
            console.say(f"  and {len(failures) - MOST_FAILURES_SHOWN} more")
