"""gf prefill: documents in, caches out."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from gfcli.support.console import console
from gfcli.support.documents import check_list_options
from gfcli.support.exits import SOME_FAILED
from gfcli.support.options import (
    DeviceOption,
    DtypeOption,
    ModelOption,
    QuietOption,
    VerboseOption,
    checked_checkpoints,
)
from goldfinch.jobs.sources import find_sources


def prefill(
    documents: Annotated[
        list[str] | None,
        typer.Argument(metavar="DOCUMENT...", help="Text files, patterns, - for stdin; folders with -r."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE|DIR/", help="Cache file, or a folder for caches.")
    ] = None,
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Text files in folders, too.")] = False,
    files_from: Annotated[
        str | None, typer.Option("--files-from", metavar="FILE|-", help="A list of documents, one a line.")
    ] = None,
    null: Annotated[bool, typer.Option("-0", "--null", help="Names in that list end in NUL.")] = False,
    library: Annotated[bool, typer.Option("--library", help="Into the library, where gf ask DOCUMENT looks.")] = False,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    checkpoints: Annotated[
        str,
        typer.Option(
            "--checkpoints",
            metavar="none|auto|N",
            help="Positions to go on from when the document changes: none, every N tokens, or as many as a quarter "
            "of the tokens' own bytes pays for, densest near the end.",
            callback=checked_checkpoints,
        ),
    ] = "auto",
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="CACHE",
            help="A cache that every document continues: each file stores its own part and a reference to it.",
        ),
    ] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            "--batch-tokens",
            min=1,
            metavar="N",
            help="On a GPU, compute short documents together, N tokens at a time; values agree up to rounding.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Compute again, and replace a cache made from something else.")
    ] = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="One JSON object per document on stdout, as each ends.")
    ] = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Read documents once, in linear time, and write a small cache file for each.

    doc.txt gives doc.gfc beside it, or in the folder of -o, where the folders below those of -r are mirrored. A
    document whose cache is fresh is skipped; one that changed since is computed from the last checkpoint before the
    change, and a run that was interrupted goes on where it stopped, both with the result of a cold run; --force
    computes everything again. -r takes text files, neither hidden nor ignored by git. The paths of the caches go to
    stdout. One document that fails does not stop the others (exit 3).

    Examples:

      gf prefill doc.txt

      gf prefill -r docs/ -o caches/

      find . -name '*.md' -print0 | gf prefill --files-from - -0 --library

      pdftotext report.pdf - | gf prefill - -o report.gfc

      gf prefill --base handbook.gfc chapter*.txt
    """
    console.quiet, console.verbose = quiet, verbose
    check_list_options(files_from, null)
    sources = find_sources(documents or [], recursive, files_from, null)
    for name in sources.skipped:
        console.detail(f"{name}: skipped, no text")
    many = len(sources.documents) > 1 or recursive or files_from is not None
    if output is not None and output.endswith("/"):
        Path(output).mkdir(parents=True, exist_ok=True)
    from gfcli.support.batch import Batch, Plan

    plan = Plan(output, library, model, device, dtype, checkpoints, base, force, many, batch_tokens)
    with Batch(plan, sources) as batch, closing(batch.reports()) as reports:
        for source, report in reports:
            if isinstance(report, Exception):
                if not many and not jsonl:
                    raise report
                row = batch.tally.failed(source, report, say=not jsonl)
                if jsonl:
                    print(json.dumps(row), flush=True)
                continue
            print(json.dumps(report) if jsonl else report["output"], flush=True)
    if batch.tally.failures:
        raise typer.Exit(SOME_FAILED if many else batch.tally.failures[0][1])
