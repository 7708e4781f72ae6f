"""gf prune: caches outside the library whose documents are gone. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gfcli.support.console import console
from gfcli.support.exits import CommandError
from gfcli.support.options import QuietOption
from gfcli.support.store import open_store
from gfcli.support.values import counted, show_bytes
from goldfinch.jobs.prune import Orphans, find_orphans, remove, sweep_removed

from .cache import DryRun, Yes


def prune(
    folders: Annotated[list[str], typer.Argument(metavar="DIR...", help="Folders with caches.")],
    orphaned: Annotated[bool, typer.Option("--orphaned", help="Remove caches whose documents are gone.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    quiet: QuietOption = False,
) -> None:
    """Remove caches whose documents are gone.

    For caches beside documents or in folders; gf cache prune is for the library. The command lists the caches below
    the folders and asks first; without a terminal it needs -y. A cache goes only if a run of yours made it, it is
    intact, and nothing is where its document was: a document on a disk that is not there now counts as gone. Nothing
    hidden is removed, nothing through a link, and no cache that another one in these folders or in the library
    continues (gf prefill --base). The paths of removed caches go to stdout.

    Examples:
      gf prune caches/ --orphaned --dry-run
      gf prune caches/ --orphaned -y
    """
    console.quiet = quiet
    if not orphaned:
        raise CommandError(
            "gf prune without saying which caches", hint="add --orphaned: those whose documents are gone"
        )
    for name in folders:
        if not Path(name).exists():
            raise FileNotFoundError(2, "no such folder", name)
        if not Path(name).is_dir():
            raise CommandError(f"{name} is no folder, expected one", hint="rm removes a file")
    if not dry_run:
        sweep_removed([Path(name) for name in folders])
    with open_store() as store:
        bases = [digest for entry in store.entries() for digest in entry.rests_on]
        found = find_orphans([Path(name) for name in folders], store.folder, bases)
    for orphan in found.removable:
        console.words(f"{orphan.path}  {show_bytes(orphan.bytes)}  {orphan.source}")
    for path, why in found.skipped:
        console.words(f"skipped ({why}): {path}")
    count = counted(len(found.removable), "cache")
    to_remove = f"{count} to remove, {show_bytes(found.bytes)}" if found.removable else "nothing to remove"
    console.say(to_remove + _skipped(found))
    if dry_run or not found.removable or not console.agrees(f"Remove {count}, {show_bytes(found.bytes)}?", yes):
        return
    done = remove(found.removable)
    for orphan in done.removable:
        console.path(orphan.path)
    for path, why in done.skipped:
        console.warn(f"{path} skipped: {why}")
    console.say(f"{counted(len(done.removable), 'cache')} removed, {show_bytes(done.bytes)} freed{_skipped(done)}")


def _skipped(orphans: Orphans) -> str:
    return f"; {len(orphans.skipped)} skipped" if orphans.skipped else ""
