"""gf prefill: documents in, caches out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import gfcache
import typer

from .console import console
from .documents import STDIN, read_document
from .exits import SOME_FAILED, CommandError, describe, exit_code
from .options import DeviceOption, DtypeOption, ModelOption, QuietOption, load, show_bytes
from .outputs import check_replaceable, output_path

if TYPE_CHECKING:
    from goldfinch.cache import DocumentCache
    from goldfinch.model import LanguageModel


def prefill(
    documents: Annotated[list[str], typer.Argument(metavar="DOCUMENT...", help="Text files, or - for stdin.")],
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE|DIR/", help="Cache file, or a folder for caches.")
    ] = None,
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
        ),
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace an output made from something else.")] = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="One JSON object per document on stdout, as each ends.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Read documents once, in linear time, and write a small cache file for each.

    doc.txt gives doc.gfc beside it. A document that changed since is computed from the last checkpoint before the
    change, with the result of a cold run. The paths of the caches go to stdout. One document that fails does not
    stop the others (exit 3).

    Examples:

      gf prefill doc.txt

      gf prefill docs/*.txt -o caches/

      pdftotext report.pdf - | gf prefill - -o report.gfc
    """
    console.quiet = quiet
    if documents.count(STDIN) > 1:
        raise CommandError("- (stdin) is named more than once")
    if output is not None and output.endswith("/"):
        Path(output).mkdir(parents=True, exist_ok=True)
    loaded = load(model, device, dtype)
    taken: set[Path] = set()
    failures: list[BaseException] = []
    many = len(documents) > 1
    for name in documents:
        started = time.perf_counter()
        try:
            report = _prefill_one(name, output, loaded, force, checkpoints, taken, many)
        except Exception as error:
            if not many and not jsonl:
                raise
            failures.append(error)
            message, hint = describe(error)
            if jsonl:
                print(json.dumps(_failed(name, error, message)), flush=True)
            else:
                console.error(error if name in message else CommandError(f"{name}: {message}", hint=hint))
            continue
        report["seconds"] = round(time.perf_counter() - started, 4)
        print(json.dumps(report) if jsonl else report["output"], flush=True)
    if failures:
        if many:
            console.say(f"{len(failures)} of {len(documents)} documents failed")
        raise typer.Exit(SOME_FAILED if many else exit_code(failures[0]))


def _failed(name: str, error: BaseException, message: str) -> dict[str, Any]:
    return {"source": name, "status": "failed", "error": {"code": exit_code(error), "message": message}}


def _prefill_one(
    name: str, output: str | None, model: LanguageModel, force: bool, checkpoints: str, taken: set[Path], many: bool
) -> dict[str, Any]:
    from goldfinch import document_token_ids
    from goldfinch import prefill as run_prefill
    from goldfinch.cache import identity_of
    from goldfinch.prefilling import plan_checkpoints, reusable_tokens

    document = read_document(name)
    path = output_path(document, output, taken, many)
    if not force:
        check_replaceable(path, document.source, identity_of(model)["model"]["prefill_fingerprint"])
    taken.add(path)
    token_ids, document_range = document_token_ids(model, document.text)
    tokens = token_ids.shape[1]
    trained = model.config.context_length
    if tokens > trained:
        console.warn(
            f"{document.label} has {tokens:,} tokens, this model was trained on {trained:,}: answers may suffer"
        )
    started = time.perf_counter()
    base = None if force else _previous(path, model)
    reused = 0 if base is None else reusable_tokens(base, token_ids)
    with console.progress(document.label) as progress:
        cache = run_prefill(
            model,
            token_ids,
            progress=progress,
            document_range=document_range,
            source=document.source,
            checkpoints=plan_checkpoints(model.config, tokens, checkpoints, model.emb.weight.element_size()),
            base=base,
        )
    elapsed = time.perf_counter() - started
    cache.save(path)
    size = path.stat().st_size
    taken_over = f", {reused:,} of them taken over" if reused else ""
    console.say(f"{path}: {tokens:,} tokens{taken_over}, {show_bytes(size)}, {tokens / elapsed:,.0f} tok/s")
    return {
        "source": name,
        "status": "ok",
        "output": str(path),
        "tokens": tokens,
        "tokens_reused": reused,
        "bytes": size,
        "tok_s": round(tokens / elapsed, 1),
    }


def _previous(path: Path, model: LanguageModel) -> DocumentCache | None:
    """The cache that is about to be refreshed, if going on from it gives the bits of a cold run."""
    from goldfinch import GoldFinchError, open_cache
    from goldfinch.cache import numerics_difference

    try:
        base = open_cache(path, model)
    except (OSError, gfcache.CacheFormatError, GoldFinchError):
        return None  # absent, damaged or another model's: computed afresh
    return base if numerics_difference(base.numerics, model) is None else None
