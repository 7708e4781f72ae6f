"""What became of the documents of a run, and its summary."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from typing import Any

from goldfinch.jobs.sources import Source, Sources

from .console import console
from .exits import CommandError, describe, exit_code

MOST_FAILURES_SHOWN = 20


class Tally:
    """Counts of a run, from its beginning on.

    Attributes:
        failures: (name, exit code) pairs.
        counts: documents by status, without those that failed.
        tokens: of the documents that were computed.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self.failures: list[tuple[str, int]] = []
        self.counts: Counter[str] = Counter()
        self.tokens = 0
        self._started = time.perf_counter()

    def note(self, report: dict[str, Any]) -> None:
        """Note a document that did not fail."""
        self.counts[report["status"]] += 1
        if report["status"] == "ok":
            self.tokens += int(report["tokens"])

    def failed(self, source: Source, error: Exception, *, say: bool) -> dict[str, Any]:
        """Note a failure and go on; its report."""
        code = exit_code(error)
        self.failures.append((source.name, code))
        message, hint = describe(error)
        if say:
            named = source.name in message
            console.error(error if named else CommandError(f"{source.name}: {message}", hint=hint))
        cause: BaseException | None = error
        while cause is not None:  # frames would keep what they hold, caches for instance, for the rest of the run
            traceback.clear_frames(cause.__traceback__)
            cause = cause.__cause__
        return {"source": source.name, "status": "failed", "error": {"code": code, "message": message}}

    def show(self) -> None:
        """The summary."""
        elapsed = time.perf_counter() - self._started
        parts = [f"{self.counts['ok']} pre-filled"]
        if self.counts["fresh"]:
            parts.append(f"{self.counts['fresh']} fresh")
        if self._sources.skipped:
            parts.append(f"{len(self._sources.skipped)} skipped (no text)")
        if self.failures:
            parts.append(f"{len(self.failures)} of {len(self._sources.documents)} documents failed")
        rate = f", {self.tokens / elapsed:,.0f} tok/s" if self.tokens else ""
        console.say(f"{', '.join(parts)}; {self.tokens:,} tokens in {elapsed:,.1f} s{rate}")
        for name, code in self.failures[:MOST_FAILURES_SHOWN]:
            console.say(f"  failed: {name} (exit {code})")
        if len(self.failures) > MOST_FAILURES_SHOWN:
            console.say(f"  and {len(self.failures) - MOST_FAILURES_SHOWN} more")
