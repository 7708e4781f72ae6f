"""What jobs yield and tell, as lines on stderr and objects on stdout."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from gfcache import Store

from goldfinch.jobs.events import DETAIL, NOTE, PassedOver, Progress, Remark, Removed, Report, Told, Written
from goldfinch.jobs.sources import STDIN

from .console import TokenProgress, console
from .exits import describe
from .progress import BatchProgress
from .store import say_removed
from .values import show_bytes


class Teller:
    """Shows what is told while documents are computed: their progress, remarks, what had to make room.

    Args:
        overall: progress over all documents; None for that of each.
        store: the library's, where there is one.
    """

    def __init__(self, overall: BatchProgress | None = None, store: Store | None = None) -> None:
        self._overall, self._store = overall, store
        self._bar: TokenProgress | None = None

    def __enter__(self) -> Teller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def __call__(self, event: Told) -> None:
        match event:
            case Progress() if self._overall is not None:
                self._overall.within(event.done, event.total)
            case Progress():
                self._show(event)
            case Remark():
                self._remark(event)
            case Removed() if self._store is not None:
                say_removed(self._store, event.removal)

    def _show(self, event: Progress) -> None:
        if self._bar is None:
            self._bar = console.progress(event.label)
        self._bar(event.done, event.total)
        if event.done >= event.total:
            self._end()

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None

    def _remark(self, event: Remark) -> None:
        text = event.text if event.error is None else f"{describe(event.error)[0]}: {event.text}"
        say = {DETAIL: console.detail, NOTE: console.say}.get(event.level, console.warn)
        say(text)


def say_outcome(event: Written | PassedOver) -> None:
    """One line about a cache that was written, with -v also about one that was fresh."""
    report = event.report
    if isinstance(event, PassedOver):
        if report.checkpoint_bytes is not None:
            console.detail(f"{report.path}: fresh")
    elif report.checkpoint_bytes is None:
        label = "stdin" if event.source.name == STDIN else event.source.name
        console.say(f"{label}: {report.tokens:,} tokens, {report.tokens - report.tokens_reused:,} computed")
    else:
        say_written(report)


def say_written(report: Report) -> None:
    """One line about a written cache file."""
    remarks, cost = [f"{report.tokens:,} tokens"], report.checkpoint_bytes
    reused, changed = report.tokens_reused, report.first_changed_token
    if changed is not None and reused:
        remarks.append(f"changed from token {changed:,} on, {reused:,} reused")
    elif reused:
        remarks.append(f"{reused:,} reused")
    remarks.append(show_bytes(report.bytes) + (f" ({show_bytes(cost)} of it checkpoints)" if cost else ""))
    remarks.append(f"{report.tok_s or 0:,.0f} tok/s")
    console.say(f"{report.path}: {', '.join(remarks)}")


def show_outcome(event: Written | PassedOver, jsonl: bool) -> None:
    """A document that did not fail, in words and as data: an object, or the path of its cache."""
    console.kept = True
    say_outcome(event)
    if jsonl:
        console.json(outcome_json(event))
    elif isinstance(event, PassedOver) or not console.says_twice:
        console.path(event.report.path)


def outcome_json(event: Written | PassedOver) -> dict[str, Any]:
    """The object of a document that did not fail; JSON Schema: docs/schemas/prefill.json."""
    report = event.report
    row: dict[str, Any] = {"source": event.source.name, "status": status_of(type(event))}
    tokens = {"tokens": report.tokens, "tokens_reused": report.tokens_reused}
    if report.checkpoint_bytes is None:
        row |= tokens | {"output": str(report.path), "bytes": report.bytes}
    else:
        row |= {"output": str(report.path)} | tokens
        row |= {"first_changed_token": report.first_changed_token, "checkpoint_bytes": report.checkpoint_bytes}
        row["bytes"] = report.bytes
        if report.tok_s is not None:
            row["tok_s"] = report.tok_s
    return row | {"seconds": round(report.seconds, 4)}


def status_of(kind: type[Written] | type[PassedOver]) -> str:
    """What JSON and the summary call an outcome."""
    return "ok" if kind is Written else "fresh"
