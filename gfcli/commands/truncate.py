"""gf truncate: a document that shrinks, without reading it again."""

from __future__ import annotations

from typing import Annotated

import gfcache
import typer

from gfcli.support.console import console
from gfcli.support.exits import CommandError
from gfcli.support.options import (
    CheckpointsOption,
    DeviceOption,
    ForceOption,
    ModelOption,
    QuietOption,
    RequireVerifiedOption,
)
from gfcli.support.sessions import Models, open_to_continue

from .append import OutputOption, output_of, write_changed


def truncate(
    cache: Annotated[str, typer.Argument(metavar="CACHE", help="Cache file.")],
    to_token: Annotated[
        int | None,
        typer.Option("--to-token", metavar="N", help="Keep the first N tokens, not counting the template."),
    ] = None,
    to_line: Annotated[int | None, typer.Option("--to-line", metavar="N", help="Keep the first N lines.")] = None,
    output: OutputOption = None,
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
