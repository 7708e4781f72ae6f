"""gf status: which caches still belong to their sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from gfcli.support.cache_files import find_caches
from gfcli.support.console import console, shortened
from gfcli.support.exits import CONDITION_NOT_MET, SCHEMA_VERSION
from gfcli.support.options import QuietOption
from goldfinch.library.freshness import DETACHED, FRESH, STATES, UNREAD, cache_state
from goldfinch.library.reach import Reach


def status(
    caches: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CACHE|DIR...",
            help="Cache files, patterns or folders, documents or IDs of the library; by default, the current folder.",
        ),
    ] = None,
    fail_stale: Annotated[
        bool, typer.Option("--fail-stale", help="Exit with code 10 unless every cache is fresh or detached.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Show which caches are up to date.

    A cache is fresh; stale, if its source has changed; orphaned, if its source is gone; detached, if it has no source
    file; broken, if its base is missing or has changed; damaged; or unread: a cache may name any file as its source, so
    only those below the folders named or the current one are read, and those that runs of yours have read. Sources are
    compared by content, so a file that was only touched stays fresh. Every checksum is verified. No model is loaded.

    Examples:
      gf status
      gf status caches/ --json
      gf status --fail-stale doc.gfc && gf ask --cache doc.gfc "Who signed?"
    """
    console.quiet = quiet
    reach = Reach(caches or [])
    rows = [cache_state(path, reach) for path in find_caches(caches or ["."], library=True)]
    counts = Counter(row["state"] for row in rows)
    if as_json:
        console.json({"schema_version": SCHEMA_VERSION, "caches": rows, "counts": dict(counts)})
    else:
        _show(rows)
        for row in rows:
            if row["state"] == UNREAD:
                console.warn(row["message"])
        console.say("; ".join(f"{counts[state]} {state}" for state in STATES if counts[state]))
    if fail_stale and any(row["state"] not in (FRESH, DETACHED) for row in rows):
        raise typer.Exit(CONDITION_NOT_MET)


def _show(rows: Sequence[dict[str, Any]]) -> None:
    """State, cache and source of each; on a terminal, both paths are cut to half of it."""
    half = None if console.columns is None else (console.columns - 9 - 4) // 2
    paths = [row["path"] if half is None else shortened(row["path"], half) for row in rows]
    width = max(map(len, paths))
    for row, path in zip(rows, paths, strict=True):
        rounded = _rounded(row)
        source = console.fitted(row["source"] or "", 9 + 1 + width + 2, len(rounded))
        console.line(f"{row['state']:<9} {path:<{width}}  {source}{rounded}".rstrip(), state=row["state"])


def _rounded(row: dict[str, Any]) -> str:
    """Which codecs have rounded the values of a cache, and who dropped rows of it."""
    found = [f"{name} {row[key]}" for key, name in (("codec", "keys"), ("state_codec", "state")) if row[key]]
    rounded = f"  (rounded: {', '.join(found)})" if found else ""
    return rounded + (f"  (rows kept by {row['dropping']})" if row["dropping"] else "")
