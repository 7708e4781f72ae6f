"""gf append and gf truncate: documents that grow or shrink, without being read again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import gfcache
import typer

from gfcli.support.console import console
from gfcli.support.documents import read_document, reading_of
from gfcli.support.events import Teller, say_written
from gfcli.support.exits import CommandError
from gfcli.support.options import (
    CheckpointsOption,
    DeviceOption,
    EncodingOption,
    ForceOption,
    ModelOption,
    QuietOption,
    RequireVerifiedOption,
    SkipBlobsOption,
    VerbatimOption,
    journal_seconds,
)
from gfcli.support.outputs import InPlaceOutputOption, check_may_replace
from gfcli.support.sessions import Models, open_to_continue
from goldfinch.jobs.outputs import real

if TYPE_CHECKING:
    from goldfinch.library.changes import Changed
    from goldfinch.library.opening import Model


def append(
    cache: Annotated[str, typer.Argument(metavar="CACHE", help="Cache file.")],
    document: Annotated[str, typer.Argument(metavar="DOCUMENT", help="Text to append, or - for stdin.")],
    output: InPlaceOutputOption = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    checkpoints: CheckpointsOption = "auto",
    encoding: EncodingOption = "auto",
    verbatim: VerbatimOption = False,
    skip_blobs: SkipBlobsOption = False,
    force: ForceOption = False,
    require_verified: RequireVerifiedOption = False,
    quiet: QuietOption = False,
) -> None:
    """Append text to a cached document.

    Only the part after the last usable checkpoint is recomputed. The tokens are those of the whole text, and the
    result is that of a cold run. The cache is replaced in one step; if it has a base, it keeps it.

    Examples:
      gf append log.gfc today.txt
      tail -n 20 log.txt | gf append log.gfc -
      gf append book.gfc chapter2.txt -o both.gfc
    """
    console.quiet = quiet
    more = read_document(document, reading_of(encoding, verbatim, skip_blobs))
    path = output_of(cache, output, force)
    with gfcache.output_lock(path):
        loaded, old = open_to_continue(cache, model, Models(device), require_verified)
        from goldfinch.library.changes import appended

        write_changed(path, loaded, old, appended(loaded, old, more.text), f"and {more.source['name']}", checkpoints)


def output_of(cache: str, output: str | None, force: bool) -> Path:
    """Where to write; what else is there is refused before anything is loaded."""
    path = Path(output or cache)
    if real(path) != real(Path(cache)):
        check_may_replace(path, force)
    return path


def write_changed(
    path: Path,
    model: Model,
    old: Any,
    changed: Changed,
    note: str,
    checkpoints: str,
) -> None:
    """Write the cache of a changed document; it goes on to continue its base if it has one."""
    from goldfinch.jobs.job import compute, job_of_change, save

    with Teller() as tell:
        job = job_of_change(path, model, old, changed, note, checkpoints=checkpoints, tell=tell)
        compute(job, model, journal_s=journal_seconds(), tell=tell)
    say_written(save(job))
    if not console.says_twice:
        console.path(path)


def truncate(
    cache: Annotated[str, typer.Argument(metavar="CACHE", help="Cache file.")],
    to_token: Annotated[
        int | None,
        typer.Option("--to-token", metavar="N", help="Keep the first N tokens, not counting the template."),
    ] = None,
    to_line: Annotated[int | None, typer.Option("--to-line", metavar="N", help="Keep the first N lines.")] = None,
    output: InPlaceOutputOption = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    checkpoints: CheckpointsOption = "auto",
    force: ForceOption = False,
    require_verified: RequireVerifiedOption = False,
    quiet: QuietOption = False,
) -> None:
    """Keep only the beginning of a document.

    The cache is recomputed from the last checkpoint inside that part.

    Examples:
      gf truncate doc.gfc --to-line 10
      gf truncate doc.gfc --to-token 4096 -o beginning.gfc
    """
    console.quiet = quiet
    if (to_token is None) == (to_line is None):
        raise CommandError("name one of --to-token and --to-line")
    path = output_of(cache, output, force)
    with gfcache.output_lock(path):
        loaded, old = open_to_continue(cache, model, Models(device), require_verified)
        from goldfinch.library.changes import truncated_to_line, truncated_to_token

        if to_token is not None:
            changed = truncated_to_token(loaded, old, to_token)
            first, last = changed[1]
            note = f"first {last - first} tokens"
            if last - first < to_token:
                console.say(f"{last - first} tokens are kept: {to_token} would cut a character in half")
        else:
            assert to_line is not None
            changed, note = truncated_to_line(loaded, old, to_line), f"first {to_line} lines"
        write_changed(path, loaded, old, changed, note, checkpoints)
