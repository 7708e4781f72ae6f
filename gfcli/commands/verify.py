"""gf verify: checksums of cache files, and whether a cache is what its model computes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import gfcache
import typer

from gfcli.support.cache_files import are_several, files_named
from gfcli.support.console import console
from gfcli.support.exits import CONDITION_NOT_MET, SCHEMA_VERSION, CommandError, failed_json
from gfcli.support.options import DeviceOption, ModelOption
from gfcli.support.sessions import Models, open_cache_file
from gfcli.support.tally import Failures
from gfcli.support.targets import CACHES_HELP
from gfcli.support.values import MOST_SEED, parse_share
from goldfinch.errors import GoldFinchError
from goldfinch.library.find import index_fits
from goldfinch.library.freshness import check_source
from goldfinch.library.known import REPLAYED, note

from .inspect import Objects

# What other numerics may change of a measured divergence, which is a mean over few positions.
RECEIPT_TOLERANCE = 0.5


def verify(
    files: Annotated[list[str], typer.Argument(metavar="CACHE...", help=CACHES_HELP)],
    replay: Annotated[
        str | None,
        typer.Option("--replay", metavar="P%", help="Recompute this share of the tokens, by default all, and compare."),
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, max=MOST_SEED, metavar="N", help="Random seed for the choice of windows."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object, of several files an array.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per file, each on a line.")] = False,
) -> None:
    """Check that cache files are intact.

    Checks every checksum and every rule of the format, and that the index of blocks and words, if there is one, is that
    of the token ids. --replay also runs stored tokens through the model again, in
    windows between checkpoints (from the start where there are none), and compares states, tails and compressed keys;
    where the document is at hand as it was, the tokens must be its own.
    100% finds any altered token, vector or weight; in a cache computed with other numerics, any that changes a value
    by more than rounding. A smaller share is chosen at random. Exit code 10 when a value differs.

    Examples:
      gf verify doc.gfc
      gf verify --replay doc.gfc
      gf verify --replay 10% doc.gfc
      gf verify --jsonl 'caches/*.gfc'
    """
    share = None if replay is None else parse_share(replay, "--replay")
    failures = Failures()
    models = Models(device)
    several, files = are_several(files), files_named(files)
    several = several or len(files) > 1
    objects = Objects(as_json, jsonl, several)
    for path in files:
        try:
            result = _verify_one(path, share, model, models, seed)
        except (CommandError, GoldFinchError, gfcache.CacheFormatError, OSError, MemoryError, RuntimeError) as error:
            if objects.are_wanted:
                objects.put(failed_json(path, error))
            if not several:
                raise
            failures.note(path, error, say=not objects.are_wanted)
            continue
        if objects.are_wanted:
            objects.put(result)
        else:
            console.line(_text(result))
    objects.end()
    failures.end()


def _verify_one(
    path: str,
    share: float | None,
    model: str | None,
    models: Models,
    seed: int | None,
) -> dict[str, Any]:
    header = gfcache.verify_cache(path, complete=True)
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "path": path,
        "status": "ok",
        "digest": header.digest,
        "sections": len(header.sections),
        "tokens": header.tokens,
    }
    if index_fits(Path(path)) is False:
        raise CommandError(
            f"{path}: its index of blocks and words is not that of its token ids",
            code=CONDITION_NOT_MET,
            hint="questions may be answered from the wrong places; pre-fill the document again",
        )
    if share is None:
        return result

    loaded, cache = open_cache_file(path, model, models)
    from goldfinch.library.opening import engine_of

    engine = engine_of(loaded)
    source = check_source(Path(path), header, engine.card)
    if source is False:
        raise CommandError(
            f"{path}: its token ids are not those of {(header.source or {}).get('path')}",
            code=CONDITION_NOT_MET,
            hint="the cache is of another text than it says; pre-fill the document again",
        )
    report = engine.replay(cache, share=share, seed=seed)
    if report.difference is not None:
        raise CommandError(
            f"{path}: {report.difference}",
            code=CONDITION_NOT_MET,
            hint="the cache does not hold what this model computes on this machine; pre-fill the document again",
        )
    receipt = _receipt(path, engine, cache, report.exact) if share == 1.0 else {}
    if source and share == 1.0 and cache.digest == header.digest:  # else it was replaced meanwhile
        note(cache.digest, REPLAYED)
    return (
        result
        | {"source_compared": bool(source)}
        | receipt
        | {"tokens_replayed": report.tokens, "windows": report.windows, "exact": report.exact}
    )


def _receipt(path: str, engine: Any, cache: Any, exact: bool) -> dict[str, Any]:
    """What a receipt says of the codecs is measured again.

    Raises:
        CommandError: it is something else.
    """
    if getattr(cache, "receipt", None) is None:
        return {}
    from goldfinch.measure.divergence import reproduced

    again = reproduced(engine, cache)
    noted, now = cache.receipt.mean_kl, again.mean_kl
    if (again != cache.receipt) if exact else abs(now - noted) > RECEIPT_TOLERANCE * max(now, noted) + 1e-3:
        raise CommandError(
            f"{path}: its receipt says that its codecs cost KL {noted:.5f}, it is {now:.5f}",
            code=CONDITION_NOT_MET,
            hint="gf prefill --receipt measures again",
        )
    return {"receipt_reproduced": True}


def _text(result: dict[str, Any]) -> str:
    text = f"{result['path']}: ok, {result['sections']} sections, digest {result['digest'][:16]}"
    if "tokens_replayed" in result:
        how = "bit for bit" if result["exact"] else "within rounding (other numerics)"
        text += "; token ids compared with the document" if result["source_compared"] else "; the document was not read"
        text += "; the receipt of its codecs holds" if "receipt_reproduced" in result else ""
        text += f"; {result['tokens_replayed']:,} of {result['tokens']:,} tokens replayed, equal {how}"
    return text
