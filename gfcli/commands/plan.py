"""gf plan: what gf prefill would take, before anything runs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gfcli.support.console import console
from gfcli.support.documents import check_list_options, chosen_files, read_document, reading_of
from gfcli.support.exits import SCHEMA_VERSION
from gfcli.support.options import (
    CheckpointsOption,
    CodecOption,
    DeviceOption,
    DtypeOption,
    EncodingOption,
    ExcludeOption,
    ExtensionOption,
    IncludeOption,
    LayoutOption,
    ModelOption,
    QuietOption,
    SkipBlobsOption,
    StateCodecOption,
    VerbatimOption,
    coding_of,
    load,
)
from gfcli.support.store import open_store
from gfcli.support.tally import Failures
from gfcli.support.values import counted, show_bytes
from goldfinch.jobs.sources import find_sources

if TYPE_CHECKING:
    from gfcache import Coding

    from goldfinch.engine.base import Engine
    from goldfinch.library.opening import Model
    from goldfinch.measure.profile import MachineProfile
    from goldfinch.text.documents import Document


def plan(
    documents: Annotated[
        list[str] | None, typer.Argument(metavar="DOCUMENT...", help="Text files, as for gf prefill; with -r, folders.")
    ] = None,
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Read text files in folders, too.")] = False,
    exclude: ExcludeOption = None,
    include: IncludeOption = None,
    extensions: ExtensionOption = None,
    files_from: Annotated[
        str | None, typer.Option("--files-from", metavar="FILE|-", help="File that lists documents, one per line.")
    ] = None,
    null: Annotated[bool, typer.Option("-0", "--null", help="Names in that list end in NUL.")] = False,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="DIR", help="Folder whose free disk space to check.")
    ] = ".",
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    checkpoints: CheckpointsOption = "auto",
    layout: LayoutOption = "auto",
    codec: CodecOption = None,
    state_codec: StateCodecOption = None,
    encoding: EncodingOption = "auto",
    verbatim: VerbatimOption = False,
    skip_blobs: SkipBlobsOption = False,
    measure: Annotated[bool, typer.Option("--measure", help="Measure this machine again.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Estimate the size and time of a prefill.

    Shows tokens, cache bytes and seconds of each document without computing them. Bytes follow from the format and the
    compressed size of the token ids; with --codec or --state-codec, also from what these make of the first 2,048
    tokens. Time comes from this machine's profile, which is measured once per model and precision (in seconds) and
    stored beside the library. It is taken to grow with the length; where attention makes it grow faster, gf says so.
    The total is compared with the cap of the library and with the free disk space.

    Examples:
      gf plan docs/*.txt
      gf plan -r docs/ --dtype bfloat16 --json
    """
    console.quiet = quiet
    check_list_options(files_from, null)
    reading = reading_of(encoding, verbatim, skip_blobs)
    only = chosen_files(recursive, exclude, include, extensions)
    sources = find_sources(documents or [], recursive, files_from, null, reading, only)
    for remark in sources.remarks:
        console.warn(remark)
    many = len(sources.documents) > 1 or recursive or files_from is not None
    from goldfinch.library.opening import engine_of
    from goldfinch.measure.profile import machine_profile

    loaded = load(model, device, dtype, layout=layout)
    profile, is_new = machine_profile(engine_of(loaded), measure=measure)
    if is_new:
        busy = "; it is busy, so the next plan measures again" if profile.is_busy else ""
        console.say(f"measured this machine: {profile.tok_s:,.0f} tok/s{busy}")
    rows, failures, coding = [], Failures(), coding_of(codec, state_codec, engine_of(loaded).card)
    for source in sources.documents:
        try:
            rows.append({"source": source.name} | _row(loaded, read_document(source), checkpoints, profile, coding))
        except Exception as error:
            if source.is_passed_over(error):
                console.detail(f"{source.name}: skipped: {error}")
                continue
            if not many:
                raise
            failed = failures.note(source.name, error, say=not as_json)
            if as_json:
                rows.append({"source": source.name, "error": failed})
    found = {"schema_version": SCHEMA_VERSION, "documents": rows} | _sums(rows, output)
    found["profile"] = {"tok_s": round(profile.tok_s, 1), "document_s": round(profile.document_s, 5)}
    _warn_of_squares(engine_of(loaded), rows)
    if as_json:
        console.json(found)
    else:
        console.lines(_lines(rows, found))
    failures.end()


def _warn_of_squares(engine: Engine[Any], rows: Sequence[dict[str, Any]]) -> None:
    """Say where the time shown is too short, for attention takes the square of a document's length."""
    from goldfinch.measure.profile import measured_tokens

    whole = (row.get("tokens", 0) for row in rows if not row.get("blocks"))
    longest, most = max(whole, default=0), measured_tokens(engine)
    if not engine.is_linear and longest > most:
        console.warn(
            f"times of documents over {most:,} tokens are too short: attention takes the square of the length, and the "
            f"longest has {longest:,}"
        )


def _row(
    model: Model, document: Document, checkpoints: str, profile: MachineProfile, coding: Coding | None
) -> dict[str, Any]:
    from gfcache.format.families.transformers import block_state_bytes
    from gfcache.format.summary import llama_bytes_per_token

    from goldfinch.caching.sizes import planned_bytes
    from goldfinch.library.changes import document_token_ids
    from goldfinch.library.opening import engine_of
    from goldfinch.measure.rates import measured_rates
    from goldfinch.policies.index import DocumentIndex

    engine, (ids, own) = engine_of(model), document_token_ids(model, document.text)
    tokens = len(ids)
    positions = engine.plan_checkpoints(tokens, checkpoints)
    source = document.source | {"relative_path": document.source["name"]}
    index = None if engine.tokenizer is None else DocumentIndex(engine.tokenizer, ids[slice(*own)]).packed()
    identity = engine.identity_of(ids)
    size = planned_bytes(
        identity, engine.numerics, source, ids, positions, index=index, document_range=own,
        rates=measured_rates(engine, ids, coding),
    )  # fmt: skip
    blocks = len(identity["model"].get("blocks", ())) or None
    seconds, llama = round(profile.seconds(tokens), 4), tokens * llama_bytes_per_token(identity["model"]["config"])
    row = {"tokens": tokens, "blocks": blocks, "bytes": size, "seconds": seconds}
    row |= {"block_state_bytes": block_state_bytes(identity["model"]) if blocks else None}
    return row | {"document_bytes": document.source["bytes"], "llama_bytes": llama}


def _sums(rows: Sequence[dict[str, Any]], output: str) -> dict[str, Any]:
    planned = [row for row in rows if "error" not in row]
    place = Path(output).absolute()
    while not place.exists():
        place = place.parent
    with open_store() as store:
        used, cap = store.used_bytes(), store.max_bytes
    size = sum(row["bytes"] for row in planned)
    return {
        "tokens": sum(row["tokens"] for row in planned),
        "bytes": size,
        "seconds": round(sum(row["seconds"] for row in planned), 3),
        "document_bytes": sum(row["document_bytes"] for row in planned),
        "llama_bytes": sum(row["llama_bytes"] for row in planned),
        "library_bytes": used,
        "library_max_bytes": cap,
        "fits_library": cap is None or size <= cap,
        "disk_free_bytes": shutil.disk_usage(place).free,
    }


def _lines(rows: Sequence[dict[str, Any]], found: dict[str, Any]) -> list[str]:
    lines = [f"{'TOKENS':>12}  {'BYTES':>10}  {'TIME':>9}  DOCUMENT"]
    for row in rows:
        if "error" not in row:
            parts = f", in {row['blocks']:,} blocks" if row["blocks"] else ""
            parts += f" with {show_bytes(row['block_state_bytes'])} of states each" if row["block_state_bytes"] else ""
            name = console.fitted(str(row["source"]), len(_line(row, "")), len(parts))
            lines.append(_line(row, f"{name}{parts}"))
    lines.append(_line(found, f"total, {counted(len(rows), 'document')}"))
    if found["bytes"]:
        ratios = found["document_bytes"] / found["bytes"], found["llama_bytes"] / found["bytes"]
        lines.append(
            f"a Llama of the same shape keeps {show_bytes(found['llama_bytes'])} (16 bits), {_times(ratios[1])}"
        )
        lines.append(f"the documents have {show_bytes(found['document_bytes'])}, {_times(ratios[0])}")
    cap = found["library_max_bytes"]
    if cap is not None:
        room = "fits" if found["fits_library"] else "does not fit: caches would be evicted"
        lines.append(f"library: {show_bytes(found['library_bytes'])} of {show_bytes(cap)} used; the total {room}")
    if found["bytes"] > found["disk_free_bytes"]:
        lines.append(f"disk: only {show_bytes(found['disk_free_bytes'])} free")
    return lines


def _times(ratio: float) -> str:
    """A size against that of the caches."""
    return f"{ratio:,.1f} times as much" if ratio >= 1 else f"{1 / ratio:,.1f} times less" if ratio else "nothing"


def _line(row: dict[str, Any], name: str) -> str:
    return f"{row['tokens']:>12,}  {show_bytes(row['bytes']):>10}  {row['seconds']:>7,.1f} s  {name}"
