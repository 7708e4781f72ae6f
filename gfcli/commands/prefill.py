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
        typer.Argument(metavar="DOCUMENT...", help="Text files, quoted patterns, - for stdin; with -r, folders."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FILE|DIR/", help="Cache file to write, or a folder for several."),
    ] = None,
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Read text files in folders, too.")] = False,
    files_from: Annotated[
        str | None, typer.Option("--files-from", metavar="FILE|-", help="File that lists documents, one per line.")
    ] = None,
    null: Annotated[bool, typer.Option("-0", "--null", help="Names in that list end in NUL.")] = False,
    library: Annotated[
        bool, typer.Option("--library", help="Write into the library, where gf ask DOCUMENT looks.")
    ] = False,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    checkpoints: Annotated[
        str,
        typer.Option(
            "--checkpoints",
            metavar="none|auto|N",
            help="Where to keep checkpoints, from which a changed document is resumed: none, every N tokens, or auto: "
            "densest near the end, for at most a quarter of the bytes of the tokens.",
            callback=checked_checkpoints,
        ),
    ] = "auto",
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="CACHE",
            help="Cache of a text that comes before every document: each stores its own part and a reference to it.",
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
        bool, typer.Option("--force", help="Recompute everything, and replace a cache of something else.")
    ] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per document, as each ends.")] = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Read documents once and write their caches.

    doc.txt gives doc.gfc beside it, or in the folder of -o, which mirrors the folders below those of -r. A document
    whose cache is fresh is skipped. If it has changed, only the part after the last checkpoint before the change is
    recomputed, and an interrupted run resumes where it stopped; the result is that of a cold run either way. --force
    recomputes everything. -r reads text files that are neither hidden nor ignored by git. The paths of the caches go
    to stdout. A document that fails does not stop the others (exit code 3).

    Examples:
      gf prefill doc.txt
      gf prefill -r docs/ -o caches/
      gf prefill --base handbook.gfc chapter*.txt
      pdftotext report.pdf - | gf prefill - -o report.gfc
      find . -name '*.md' -print0 | gf prefill --files-from - -0 --library
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
