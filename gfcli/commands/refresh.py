"""gf refresh: stale caches made anew."""

from __future__ import annotations

import contextlib
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import gfcache
import typer

from gfcli.support.cache_files import find_caches
from gfcli.support.console import console
from gfcli.support.documents import read_document
from gfcli.support.exits import DAMAGED as DAMAGED_FILE
from gfcli.support.exits import NOT_FOUND, SOME_FAILED, CommandError, describe, exit_code
from gfcli.support.options import DeviceOption, QuietOption, checked_checkpoints
from goldfinch.jobs.outputs import real
from goldfinch.library.freshness import BROKEN, DAMAGED, DETACHED, FRESH, ORPHANED, STALE, cache_state, source_state
from goldfinch.library.opening import find_model_of

if TYPE_CHECKING:
    from goldfinch.caching.document_cache import DocumentCache
    from goldfinch.models.language_model import LanguageModel


def refresh(
    caches: Annotated[
        list[str] | None,
        typer.Argument(metavar="CACHE|DIR...", help="Cache files or folders; by default, the current folder."),
    ] = None,
    device: DeviceOption = "auto",
    checkpoints: Annotated[
        str | None,
        typer.Option(
            "--checkpoints",
            metavar="none|auto|N",
            help="Where to keep checkpoints, as in gf prefill; by default, as in each cache.",
            callback=checked_checkpoints,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("-n", "--dry-run", help="Show what would be done, and do nothing.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per refreshed cache.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Bring stale caches up to date.

    Pre-fills the sources of stale, broken and damaged caches again, each with the model that made it. Only the part
    after the last checkpoint before the first change is recomputed; the result is that of a cold run. A base is
    refreshed before the caches that continue it; one that is missing must be made first, and one without checkpoints
    cannot be continued. Fresh and detached caches are left alone. A cache whose source is gone or unknown cannot be
    refreshed (exit code 3).

    Examples:
      gf refresh caches/
      gf refresh --dry-run caches/
    """
    console.quiet = quiet
    chains = sorted((_chain(path) for path in find_caches(caches or ["."])), key=len)
    failures = 0
    models: dict[tuple[str, str | None], LanguageModel] = {}
    planned: set[Path] = set()
    for path, *bases in chains:
        row = cache_state(path)  # in its turn: a base that was refreshed leaves its children broken
        if row["state"] in (FRESH, DETACHED):
            if planned.isdisjoint(map(real, bases)):
                continue
            row["state"] = BROKEN
        place = {"source": row["source"] or row["path"], "output": row["path"]}
        try:
            if row["state"] not in (STALE, BROKEN) and (row["state"] != DAMAGED or row["tokens"] is None):
                raise _stays(row)
            if dry_run:
                planned.add(real(path))
                report = place | {"status": "planned"}
            else:
                report = _refresh_one(path, device, checkpoints, models)
        except Exception as error:
            failures += 1
            message, hint = describe(error)
            if jsonl:
                failed = {"code": exit_code(error), "message": message}
                print(json.dumps(place | {"status": "failed", "error": failed}), flush=True)
            else:
                known = row["path"] in message
                console.error(error if known else CommandError(f"{row['path']}: {message}", hint=hint))
            continue
        print(json.dumps(report) if jsonl else report["output"], flush=True)
    if failures:
        raise typer.Exit(SOME_FAILED)


def _stays(row: dict[str, Any]) -> CommandError:
    """Why a cache cannot be refreshed."""
    code = NOT_FOUND if row["state"] == ORPHANED else DAMAGED_FILE
    reason = row.get("message") or row["source"]
    return CommandError(f"{row['path']} is {row['state']} and stays as it is: {reason}", code=code)


def _refresh_one(
    path: Path, device: str, checkpoints: str | None, models: dict[tuple[str, str | None], LanguageModel]
) -> dict[str, Any]:
    from gfcli.support.writing import document_job, write

    started = time.perf_counter()
    with gfcache.output_lock(path):
        with gfcache.read_cache(path) as file:
            header = file.header
        state, source = source_state(header, path)
        if source is None or state not in (FRESH, STALE):
            where = source or "none is noted"
            raise CommandError(f"its source is gone or unknown: {where}", hint="pre-fill the document again")
        document = read_document(source)
        model = _model_of(header, device, models)
        parent = None if header.parent is None else _base_of(path, header, model)
        checkpoints = checkpoints or _spacing(path, header, model)
        report = write(path, model, document_job(document, model, checkpoints, parent))
        return {"source": source} | report | {"seconds": round(time.perf_counter() - started, 4)}


def _spacing(path: Path, header: gfcache.Header, model: LanguageModel) -> str:
    """What --checkpoints has to be for a cache to be as it is; "auto" when nothing gives its positions."""
    from goldfinch.caching.numerics import Numerics
    from goldfinch.engine.checkpoints import block_tokens_by, plan_checkpoints

    found: list[int] = gfcache.inspect_cache(path)["checkpoints"]
    gaps = [b - a for a, b in pairwise(found)] or found
    element_bytes = gfcache.layout.DTYPES[str(header.compute_dtype)]
    block = block_tokens_by(Numerics.from_dict(header.numerics))
    for wanted in ("auto", "none", *map(str, gaps[:1])):
        planned = plan_checkpoints(model.config, header.tokens, wanted, element_bytes, block)
        if [p for p in planned if p > header.first_token] == found:
            return wanted
    return "auto"


def _model_of(
    header: gfcache.Header, device: str, models: dict[tuple[str, str | None], LanguageModel]
) -> LanguageModel:
    """The model that wrote a cache, loaded once per call of the command."""
    from gfcli.support.options import load

    key = (header.model["model_fingerprint"], header.compute_dtype)
    if key not in models:
        models[key] = load(str(find_model_of(header, exact=True).path), device, None, key[1])
    return models[key]


def _base_of(path: Path, header: gfcache.Header, model: LanguageModel) -> DocumentCache:
    """The base cache as it is now, whatever its digest."""
    from goldfinch import open_cache

    assert header.parent is not None
    place = _base_place(path, header)
    if place is None:
        raise gfcache.ParentMissing(path, header.parent["path"], header.parent["digest"])
    return open_cache(place, model)


def _base_place(path: Path, header: gfcache.Header) -> Path | None:
    """Where the base of a cache lies now; None when it has none, or it is gone."""
    if header.parent is None:
        return None
    places = (path.parent / header.parent["path"], path.parent / Path(header.parent["name"]).name)
    return next((p for p in places if p.exists()), None)


def _chain(path: Path) -> list[Path]:
    """A cache, its base, the base of that, and so on, as far as they can be read."""
    chain = [path]
    with contextlib.suppress(OSError, gfcache.CacheFormatError):
        while True:
            with gfcache.read_cache(chain[-1]) as file:
                base = _base_place(chain[-1], file.header)
            if base is None or any(base.samefile(other) for other in chain):
                break
            chain.append(base)
    return chain
