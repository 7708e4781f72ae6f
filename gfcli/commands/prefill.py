"""gf prefill: documents in, caches out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from gfcache import Coding

from gfcli.support.console import console
from gfcli.support.documents import check_list_options, chosen_files, reading_of
from gfcli.support.events import Teller, show_outcome
from gfcli.support.exits import SOME_FAILED, CommandError
from gfcli.support.options import (
    CodecOption,
    DeviceOption,
    DropOption,
    DtypeOption,
    EncodingOption,
    ExcludeOption,
    ExtensionOption,
    IncludeOption,
    KeepOption,
    LayoutOption,
    MaxBytesOption,
    MaxKlOption,
    ModelOption,
    QuietOption,
    ReceiptOption,
    RequireVerifiedOption,
    SkipBlobsOption,
    StateCodecOption,
    VerbatimOption,
    VerboseOption,
    bounds_of,
    checked_checkpoints,
    coding_of,
    dropping_of,
    journal_seconds,
    load,
    model_card,
    numerics,
)
from gfcli.support.outputs import check_folder
from gfcli.support.progress import BatchProgress
from gfcli.support.sessions import Models, open_to_continue
from gfcli.support.store import open_store, say_index
from gfcli.support.tally import Tally
from gfcli.support.values import FILE_DTYPES, parse_shard, parse_wait
from goldfinch.jobs.events import Begun, Failed, Outcome, PassedOver, Skipped, Written
from goldfinch.jobs.outputs import is_folder
from goldfinch.jobs.sources import STDIN, find_sources, shard_of
from goldfinch.library.library import Library
from goldfinch.library.opening import LazyModel
from goldfinch.policies.named import BLOCKS
from goldfinch.weights.directory import ModelCard

# For documents of a batch that other runs are writing.
LOCK_WAIT_S = 600.0


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
    exclude: ExcludeOption = None,
    include: IncludeOption = None,
    extensions: ExtensionOption = None,
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
    require_verified: RequireVerifiedOption = False,
    layout: LayoutOption = "auto",
    codec: CodecOption = None,
    state_codec: StateCodecOption = None,
    drop: DropOption = None,
    keep: KeepOption = None,
    encoding: EncodingOption = "auto",
    verbatim: VerbatimOption = False,
    skip_blobs: SkipBlobsOption = False,
    receipt: ReceiptOption = False,
    max_kl: MaxKlOption = None,
    max_bytes: MaxBytesOption = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            "--batch-tokens",
            min=1,
            metavar="N",
            help="On a GPU, compute short documents together, N tokens at a time; values agree up to rounding.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Take the Ith of N equal parts of the documents: one per machine."),
    ] = None,
    lock_wait: Annotated[
        str | None,
        typer.Option(
            "--lock-wait",
            metavar="AGE",
            help="How long to wait, after the others, for documents that other runs are writing; by default 10m, and "
            "0 for a single document.",
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

    doc.txt gives doc.gfc beside it, or in the folder of -o, which mirrors the folders below those of -r. Documents
    with the same stem all keep their suffix (doc.txt.gfc, doc.md.gfc). A document whose cache is fresh is skipped.
    If it has changed, only the part after the last checkpoint before the change is recomputed, and an interrupted
    run resumes where it stopped; the result is that of a cold run either way. --force recomputes everything. -r
    reads text files that are neither hidden nor ignored by git. Several runs may share the documents: one that
    another run is writing is busy, and is looked at again at the end; --shard divides them beforehand. The paths of
    the caches go to stdout. A document that fails does not stop the others (exit code 3). --codec and --state-codec
    make smaller caches of rounded values, --drop and --keep caches without some rows; without them a fresh cache may
    have any. --max-kl and --max-bytes choose codecs, or with --drop the share to keep, for each document. Of the
    policies, h2o and expected read the document once more with all layers, in time that grows with the square of its
    length, snapkv its last tokens; streaming and random cost nothing.

    Examples:
      gf prefill doc.txt
      gf prefill -r docs/ -o caches/
      gf prefill -r docs/ -o caches/ --shard 1/4
      gf prefill doc.txt --codec step3 --state-codec int8
      gf prefill doc.txt --max-kl 0.01
      gf prefill doc.txt --drop h2o --keep 0.2
      gf prefill --base handbook.gfc chapter*.txt
      pdftotext report.pdf - | gf prefill - -o report.gfc
      find . -name '*.md' -print0 | gf prefill --files-from - -0 --library
    """
    console.quiet, console.verbose = quiet, verbose
    check_list_options(files_from, null)
    wait_s = None if lock_wait is None else parse_wait(lock_wait, "--lock-wait")
    part = None if shard is None else parse_shard(shard, "--shard")
    reading = reading_of(encoding, verbatim, skip_blobs)
    only = chosen_files(recursive, exclude, include, extensions)
    everything = find_sources(documents or [], recursive, files_from, null, reading, only)
    sources = everything if part is None else shard_of(everything, *part)
    for remark in sources.remarks:
        console.warn(remark)
    for name in sources.skipped:
        console.detail(f"{name}: skipped, not plain text")
    many = len(everything.documents) > 1 or recursive or files_from is not None
    if output is not None and output.endswith("/"):
        Path(output).mkdir(parents=True, exist_ok=True)
    _check_together(output, library, base, many, batch_tokens, layout)
    dropping = dropping_of(drop, keep, chosen=max_kl is not None or max_bytes is not None)
    tally = Tally(sources)
    with ExitStack() as stack:
        opened = _opened_base(base, model, device, dtype, require_verified) if base is not None else None
        computer = _lazy_model(model, device, dtype, layout) if opened is None else opened[0]
        coding = coding_of(codec, state_codec, computer.card)
        bounds = bounds_of(receipt, max_kl, max_bytes, coding, drop)
        if bounds is not None or drop is not None:
            _check_measurable(computer.card, library, base, dropping=drop is not None)
        store = stack.enter_context(_library(coding)) if library else None
        overall = stack.enter_context(BatchProgress(sources)) if many else None
        tell = stack.enter_context(Teller(overall, None if store is None else store.store))
        from goldfinch.jobs.batch import Batch
        from goldfinch.jobs.destinations import Plan

        wait_s = (LOCK_WAIT_S if many else 0.0) if wait_s is None else wait_s
        form = layout, coding, bounds, dropping
        plan = Plan(output, checkpoints, force, batch_tokens, journal_seconds(), wait_s, *form)
        batch = Batch(computer, plan, library=store, base=None if opened is None else opened[1], tell=tell)
        for event in stack.enter_context(closing(batch.events(sources.documents, everything.documents))):
            _show(event, tally, overall, jsonl, alone=not many)
    if many:
        tally.show()
    if tally.failures:
        raise typer.Exit(SOME_FAILED if many else tally.failures.codes[0][1])


def _check_together(
    output: str | None, library: bool, base: str | None, many: bool, batch_tokens: int | None, layout: str
) -> None:
    """Refuse options that cannot be given together, before anything is loaded."""
    if library and (output is not None or base is not None):
        raise CommandError("--library with -o or --base", hint="caches of the library have no place or base to name")
    if many and output is not None and not is_folder(output):
        raise CommandError(f"one output file {output} for several documents", hint=f"name a folder: -o {output}/")
    if batch_tokens is not None and base is not None:
        raise CommandError("--batch-tokens with --base", hint="documents that continue a base are not packed")
    if layout == BLOCKS and base is not None:
        raise CommandError("--layout blocks with --base", hint="a document in blocks stands alone: leave out --base")
    if output == STDIN:
        check_folder(Path(output))


def _check_measurable(card: ModelCard, library: bool, base: str | None, *, dropping: bool) -> None:
    """Refuse to measure codecs, and to drop rows, where that cannot be."""
    if dropping and not card.is_foreign and not (card.own_config.n_gold or card.own_config.n_attention):
        raise CommandError(f"{card.name} has no attention layers: it keeps a state, and --drop is for rows")
    if library or base is not None:
        raise CommandError(
            f"--drop, a receipt or a bound of codecs with {'--library' if library else '--base'}",
            hint="measure a document that has a file of its own and stands alone",
        )


def _opened_base(base: str, model: str | None, device: str, dtype: str | None, verified: bool) -> tuple[LazyModel, Any]:
    loaded, cache = open_to_continue(base, model, Models(device, dtype), verified)
    return LazyModel.of(loaded), cache


def _lazy_model(model: str | None, device: str, dtype: str | None, layout: str) -> LazyModel:
    card = model_card(model)
    device, dtype = numerics(device, dtype, card=card)
    return LazyModel(card, device, FILE_DTYPES[dtype], lambda: load(str(card.path), device, dtype, layout=layout))


@contextmanager
def _library(coding: Coding | None) -> Iterator[Library]:
    with Library(open_store(keep_cap=True), journal_s=journal_seconds(), coding=coding) as library:
        try:
            yield library
        finally:
            say_index(library.store)


def _show(event: Outcome, tally: Tally, overall: BatchProgress | None, jsonl: bool, alone: bool) -> None:
    match event:
        case Begun() if overall is not None:
            overall.begin(event.source)
        case Skipped():
            tally.skipped(event)
        case Failed() if alone and not jsonl:
            raise event.error
        case Failed():
            row = tally.failed(event, say=not jsonl)
            if jsonl:
                console.json(row)
        case Written() | PassedOver():
            tally.note(event)
            show_outcome(event, jsonl)
