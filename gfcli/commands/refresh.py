"""gf refresh: stale caches made anew."""

from __future__ import annotations

from typing import Annotated

import typer

from gfcli.support.cache_files import find_caches
from gfcli.support.console import console
from gfcli.support.events import Teller, show_outcome
from gfcli.support.options import DeviceOption, QuietOption, checked_checkpoints, journal_seconds
from gfcli.support.sessions import Models
from gfcli.support.tally import Failures
from goldfinch.errors import SourceGone
from goldfinch.jobs.events import Failed, Planned, Written
from goldfinch.library.reach import Reach


def refresh(
    caches: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CACHE|DIR...", help="Cache files, quoted patterns or folders; by default, the current folder."
        ),
    ] = None,
    device: DeviceOption = "auto",
    checkpoints: Annotated[
        str | None,
        typer.Option(
            "--checkpoints",
            metavar="none|auto|N",
            help="Where to keep checkpoints, as in gf prefill; by default, as in each cache.",
            callback=checked_checkpoints,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("-n", "--dry-run", help="Show what would be done, and do nothing.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per refreshed cache.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Bring stale caches up to date.

    Pre-fills the sources of stale, broken and damaged caches again, each with the model that made it. Only the part
    after the last checkpoint before the first change is recomputed; the result is that of a cold run. A base is
    refreshed before the caches that continue it; one that is missing must be made first, and one without checkpoints
    cannot be continued. Fresh and detached caches are left alone, and so are those whose source is gone, which are
    counted. One that cannot be refreshed for another reason fails (exit code 3).

    Examples:
      gf refresh caches/
      gf refresh --dry-run caches/
    """
    console.quiet = quiet
    found = find_caches(caches or ["."])
    failures, orphaned, done = Failures(), 0, 0
    from goldfinch.jobs.refresh import Refresh

    with Teller() as tell:
        run = Refresh(Models(device), checkpoints, dry_run, journal_seconds(), tell, Reach(caches or []))
        for event in run.events(found):
            done += 1
            if isinstance(event, Failed) and isinstance(event.error, SourceGone):
                orphaned += 1
                _show_orphan(event, jsonl)
            else:
                _show(event, failures, jsonl)
    if orphaned:
        console.say(f"{orphaned} orphaned, left alone: the source is gone (gf prune --orphaned removes them)")
    elif not done:
        console.say("nothing to refresh")
    failures.end()


def _show_orphan(event: Failed, jsonl: bool) -> None:
    """A cache without its source is as good as ever: nobody has to do anything about it tonight."""
    if jsonl:
        console.json({"source": event.source.name, "output": str(event.path), "status": "orphaned"})
    else:
        console.detail(str(event.error))


def _show(event: Written | Planned | Failed, failures: Failures, jsonl: bool) -> None:
    match event:
        case Failed():
            name = str(event.path)
            place = {"source": event.source.name, "output": name}
            failed = failures.note(name, event.error, say=not jsonl)
            if jsonl:
                console.json(place | {"status": "failed", "error": failed})
        case Planned():
            place = {"source": event.source.name, "output": str(event.path)}
            if jsonl:
                console.json(place | {"status": "planned"})
            else:
                console.path(event.path)
        case Written():
            show_outcome(event, jsonl)
