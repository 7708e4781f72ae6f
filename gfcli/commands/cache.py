"""gf cache: the library of caches. No torch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from gfcache import Entry, Removal, Store
from gfcache.files.places import user_folder

from gfcli.support.console import console, printable
from gfcli.support.exits import SCHEMA_VERSION, SOME_FAILED, CommandError
from gfcli.support.filters import FILTER_HELP, SORT_KEYS, chosen, filtered, in_order
from gfcli.support.options import QuietOption
from gfcli.support.store import open_store, say_index
from gfcli.support.values import counted, parse_age, parse_bytes, show_age, show_bytes
from goldfinch.library.known import known_of

Targets = Annotated[
    list[str] | None, typer.Argument(metavar="TARGET...", help="Documents, IDs, names, or cache files of the library.")
]
Filters = Annotated[
    list[str] | None,
    typer.Option("-f", "--filter", metavar="CONDITION", help=f"Choose by a condition: {FILTER_HELP}. May be repeated."),
]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Remove without asking.")]
DryRun = Annotated[bool, typer.Option("-n", "--dry-run", help="Show what would be removed, and remove nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def entries_of(store: Store) -> list[Entry]:
    """The caches of the store; says so when the index is not what it was."""
    entries = store.entries()
    say_index(store)
    return entries


def ls(
    filters: Filters = None,
    sort: Annotated[
        str, typer.Option("--sort", metavar="KEY[:asc|:desc]", help=f"Sort by {', '.join(SORT_KEYS)}.")
    ] = "used",
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", help="Show at most N caches.", min=1)] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print IDs only, one per line.")] = False,
) -> None:
    """List the caches of the library.

    Also: gf cache list. "imported" marks caches that no run of yours has made, or compared with their document.

    Examples:
      gf cache ls
      gf cache ls --filter "size>1m" --filter "used>7d" --sort size
      gf cache ls -q --filter tag=kb | xargs gf cache rm -y
    """
    console.quiet = quiet
    with open_store() as store:
        entries = entries_of(store)
        rows = in_order(filtered(entries, filters or []), sort)[:limit]
        known = {} if quiet else known_of([e.digest for e in rows if e.digest])
        if as_json:
            console.json(
                {
                    "schema_version": SCHEMA_VERSION,
                    "caches": [entry_json(store, e) | {"known": known.get(e.digest)} for e in rows],
                }
            )
        elif quiet:
            console.lines(entry.id for entry in rows)
        else:
            console.lines(table(rows, known))
            total = show_bytes(sum(e.bytes for e in rows))
            of_all = "" if len(rows) == len(entries) else f" of {len(entries):,}"
            console.say(
                f"{len(rows):,}{of_all} {'cache' if len(entries) == 1 else 'caches'}, {total}, in {store.folder}"
            )


def entry_json(store: Store, entry: Entry) -> dict[str, Any]:
    """One row of gf cache ls --json; JSON Schema: docs/schemas/cache-ls.json."""
    names = ("id", "source_path", "source_name", "source_sha256", "model", "compute_dtype", "tokens", "bytes", "hits")
    values = {name: getattr(entry, name) for name in names}
    times = {"created_at": round(entry.created_at, 3), "last_used": round(entry.last_used, 3)}
    state = {"pinned": entry.pinned, "tags": list(entry.tags), "rests_on": entry.rests_on}
    return values | times | state | {"path": str(store.path(entry)), "digest": entry.digest, "error": entry.error}


def table(rows: Sequence[Entry], known: Mapping[str, str] | None = None) -> list[str]:
    """A table for people; empty without rows.

    Args:
        known: what is known of files by digest, to mark those that nothing is known of; None marks none.
    """
    if not rows:
        return []
    now = time.time()
    cells = [("ID", "TOKENS", "SIZE", "USED", "HITS", "MODEL")]
    for e in rows:
        tokens = "unreadable" if e.error else f"{e.tokens:,}"
        age = show_age(now - e.last_used)
        cells.append((e.id, tokens, show_bytes(e.bytes), age, str(e.hits), printable(e.model or "")))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    firsts = [
        "  ".join(f"{cell:{'<' if n in (0, 5) else '>'}{widths[n]}}" for n, cell in enumerate(row)) + "  "
        for row in cells
    ]
    lines = [firsts[0] + "DOCUMENT"]
    for e, first in zip(rows, firsts[1:], strict=True):
        marks = (["pinned"] if e.pinned else []) + [f"#{tag}" for tag in e.tags]
        marks += ["imported"] if known is not None and e.digest and e.digest not in known else []
        name = e.source_path or e.source_name or "unknown"
        lines.append(first + " ".join([console.fitted(name, len(first), len(" ".join(["", *marks]))), *marks]))
    return lines


def rm(
    targets: Targets = None,
    filters: Filters = None,
    force: Annotated[bool, typer.Option("--force", help="Remove pinned caches, too.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    quiet: QuietOption = False,
) -> None:
    """Remove caches from the library.

    Documents are never touched. The command lists the caches and asks first; without a terminal it needs -y. It skips
    and counts pinned caches, caches that another process is writing, and caches that others continue (gf prefill
    --base); when it was asked for one of these by name, the exit code is 3.

    Examples:
      gf cache rm doc.txt -y
      gf cache rm 3fa2b1c09d77 --dry-run
      gf cache rm --filter "used>30d" -y
    """
    console.quiet = quiet
    with open_store() as store:
        wanted = chosen(store, entries_of(store), targets or [], filters or [])
        plan = store.remove(wanted, dry_run=True, pinned_too=force)
        done = store.remove(wanted, pinned_too=force) if confirmed(plan, dry_run, yes) else plan
        if done is not plan:
            report(done)
        if targets and done.skipped:  # a filter may choose what stays, a name asks for it
            raise typer.Exit(SOME_FAILED)


def prune(
    max_size: Annotated[
        str | None,
        typer.Option(
            "--max-size",
            metavar="SIZE",
            help="Remove the least recently used until the rest fits; by default, the cap.",
        ),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="Remove what has not been used for this long, such as 30d."),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    quiet: QuietOption = False,
) -> None:
    """Remove damaged, old or excess caches.

    Removes damaged files, leftovers of interrupted runs, the least recently used caches above the cap and, with
    --older-than, old ones. The command lists them and asks first; without a terminal it needs -y. Pinned, locked and
    continued caches are skipped and counted.

    Examples:
      gf cache prune -y
      gf cache prune --older-than 30d --dry-run
      gf cache prune --max-size 2g -y
    """
    console.quiet = quiet
    age = None if older_than is None else parse_age(older_than, "--older-than")
    with open_store() as store:
        limit = store.max_bytes if max_size is None else parse_bytes(max_size, "--max-size")
        now = time.time()
        old = [e for e in entries_of(store) if age is not None and now - e.last_used > age]
        plan = store.prune(old, limit, dry_run=True)
        if confirmed(plan, dry_run, yes):
            report(store.prune(old, limit, dry_run=False))


def confirmed(plan: Removal, dry_run: bool, yes: bool) -> bool:
    """Show what would go and ask; whether to go on.

    Raises:
        CommandError: nobody to ask.
    """
    for line in table(plan.removed):
        console.words(line)
    for name in plan.remnants:
        console.words(f"unfinished: {name}")
    for entry, why in plan.skipped:
        console.words(f"skipped ({why}): {entry.id} {entry.source_path or entry.source_name or ''}")
    count = len(plan.removed) + len(plan.remnants)
    to_remove = f"{count} to remove, {show_bytes(plan.freed_bytes)}" if count else "nothing to remove"
    console.say(to_remove + _skipped(plan))
    if dry_run or not count:
        return False
    return console.agrees(f"Remove {count}, {show_bytes(plan.freed_bytes)}?", yes)


def report(done: Removal) -> None:
    """What was removed: ids on stdout, the sum on stderr."""
    console.lines(entry.id for entry in done.removed)
    for entry, why in done.skipped:
        console.warn(f"{entry.id} skipped: {why}")
    count = len(done.removed) + len(done.remnants)
    console.say(f"{count} removed, {show_bytes(done.freed_bytes)} freed{_skipped(done)}")


def _skipped(removal: Removal) -> str:
    return f"; {len(removal.skipped)} skipped" if removal.skipped else ""


def pin(
    targets: Targets = None,
    filters: Filters = None,
    remove: Annotated[bool, typer.Option("--remove", help="Unpin; the same as gf cache unpin.")] = False,
) -> None:
    """Protect caches from eviction.

    A pinned cache stays when the library needs room under its cap, and gf cache rm skips it.

    Examples:
      gf cache pin doc.txt
      gf cache pin --filter tag=kb
    """
    _pin(targets, filters, not remove)


def unpin(targets: Targets = None, filters: Filters = None) -> None:
    """Let pinned caches be evicted again.

    Examples:
      gf cache unpin doc.txt
      gf cache unpin --filter pinned=yes
    """
    _pin(targets, filters, False)


def _pin(targets: list[str] | None, filters: list[str] | None, pinned: bool) -> None:
    with open_store() as store:
        found = chosen(store, entries_of(store), targets or [], filters or [])
        store.pin(found, pinned)
        console.say(f"{len(found)} {'pinned' if pinned else 'unpinned'}")


def tag(
    targets: Targets = None,
    filters: Filters = None,
    add: Annotated[list[str] | None, typer.Option("--add", metavar="NAME", help="Tag to add; may be repeated.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="NAME", help="Tag to remove; may be repeated.")
    ] = None,
) -> None:
    """Add or remove tags.

    Commands of gf cache choose caches by their tags with --filter tag=NAME.

    Examples:
      gf cache tag --add kb doc.txt
      gf cache tag --add old --filter "used>90d"
      gf cache tag --remove kb doc.txt
    """
    if not add and not remove:
        raise CommandError("no tag named", hint="add --add NAME or --remove NAME")
    for name in add or []:
        if not name.strip() or not name.isprintable() or "," in name:
            raise CommandError(f"tag is {name!r}, allowed: printable text without commas")
    with open_store() as store:
        found = chosen(store, entries_of(store), targets or [], filters or [])
        store.tag(found, add or [], remove or [])
        console.say(f"{len(found)} changed")


def du(as_json: AsJson = False) -> None:
    """Show how much space the library takes.

    Examples:
      gf cache du
      GF_CACHE_DIR=/mnt/caches gf cache du --json
    """
    with open_store() as store:
        entries = entries_of(store)
        by_model: dict[str, list[int]] = {}
        for entry in entries:
            sums = by_model.setdefault(entry.model or "unreadable", [0, 0])
            sums[0] += 1
            sums[1] += entry.bytes
        kernels = sum(p.stat().st_size for p in user_folder("cache", "gf-kernels").glob("*") if p.is_file())
        values = {
            "schema_version": SCHEMA_VERSION,
            "folder": str(store.folder),
            "caches": len(entries),
            "bytes": store.used_bytes(),
            "unfinished_bytes": sum(size for _, size in store.remnants(older_than_s=0)),
            "pinned_bytes": sum(e.bytes for e in entries if e.pinned),
            "max_bytes": store.max_bytes,
            "kernels_bytes": kernels,
            "models": {name: {"caches": n, "bytes": size} for name, (n, size) in sorted(by_model.items())},
        }
    if as_json:
        console.json(values)
    else:
        console.lines(_du_lines(values))


def _du_lines(values: dict[str, Any]) -> list[str]:
    cap = "no cap" if values["max_bytes"] is None else f"cap {show_bytes(values['max_bytes'])}"
    rows = [
        ("library", f"{show_bytes(values['bytes'])} in {counted(values['caches'], 'cache')} ({cap})"),
        ("pinned", show_bytes(values["pinned_bytes"])),
        ("unfinished", show_bytes(values["unfinished_bytes"])),
        ("kernels", f"{show_bytes(values['kernels_bytes'])} (compiled, not under the cap)"),
    ]
    rows += [(n, f"{show_bytes(m['bytes'])} in {counted(m['caches'], 'cache')}") for n, m in values["models"].items()]
    width = max(len(name) for name, _ in rows)
    return [*(f"{name:<{width}}  {text}" for name, text in rows), f"in {Path(values['folder'])}"]
