"""gf prefill: documents in, caches out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import gfcache
import typer

from .answering import open_cache_with_model
from .console import console
from .documents import STDIN, read_document
from .exits import SOME_FAILED, CommandError, describe, exit_code
from .options import DeviceOption, DtypeOption, ModelOption, QuietOption, load
from .outputs import check_folder, check_replaceable, output_path
from .writing import check_not_parent, document_job, write

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
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="CACHE",
            help="A cache that every document continues: each file stores its own part and a reference to it.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an output made from something else.")] = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="One JSON object per document on stdout, as each ends.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Read documents once, in linear time, and write a small cache file for each.

    doc.txt gives doc.gfc beside it. A document that changed since is computed from the last checkpoint before the
    change, and a run that was interrupted goes on where it stopped, both with the result of a cold run; --force
    computes everything again. The paths of the caches go to stdout. One document that fails does not
    stop the others (exit 3).

    Examples:

      gf prefill doc.txt

      gf prefill docs/*.txt -o caches/

      pdftotext report.pdf - | gf prefill - -o report.gfc

      gf prefill --base handbook.gfc chapter*.txt
    """
    console.quiet = quiet
    if documents.count(STDIN) > 1:
        raise CommandError("- (stdin) is named more than once")
    if output is not None and output.endswith("/"):
        Path(output).mkdir(parents=True, exist_ok=True)
    loaded, parent = _load(model, device, dtype, base)
    taken: set[Path] = set()
    failures: list[BaseException] = []
    many = len(documents) > 1
    for name in documents:
        started = time.perf_counter()
        try:
            report = _prefill_one(name, output, loaded, force, checkpoints, parent, taken, many)
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
    name: str,
    output: str | None,
    model: LanguageModel,
    force: bool,
    checkpoints: str,
    parent: DocumentCache | None,
    taken: set[Path],
    many: bool,
) -> dict[str, Any]:
    from goldfinch.cache import identity_of

    document = read_document(name)
    path = output_path(document, output, taken, many)
    taken.add(path)
    check_folder(path)
    if parent is not None and parent.path is not None:
        check_not_parent(path, parent.path)
    with gfcache.output_lock(path):
        if not force:
            check_replaceable(path, document.source, identity_of(model)["model"]["prefill_fingerprint"])
        job = document_job(document, model, checkpoints, parent)
        return {"source": name} | write(path, model, job, fresh=force)


def _load(
    model: str | None, device: str, dtype: str | None, base: str | None
) -> tuple[LanguageModel, DocumentCache | None]:
    """The model, and the base cache if there is one (its model, unless another is named)."""
    if base is None:
        return load(model, device, dtype), None
    return open_cache_with_model(base, model, device, dtype, strict=False)
