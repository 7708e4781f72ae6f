"""gf flatten and gf convert: the same cache in another file. No torch, unless something is measured or dropped."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import gfcache
import typer
from gfcache.format.convert import obstacle_of

from gfcli.support.console import console
from gfcli.support.exits import CommandError
from gfcli.support.options import (
    CodecOption,
    DeviceOption,
    DropOption,
    ForceOption,
    KeepOption,
    MaxBytesOption,
    MaxKlOption,
    ModelOption,
    ReceiptOption,
    StateCodecOption,
    bounds_of,
    coding_of,
    dropping_of,
    say_basis,
)
from gfcli.support.outputs import InPlaceOutputOption, check_may_replace
from gfcli.support.sessions import Models, open_cache_file
from gfcli.support.values import show_bytes
from goldfinch.library.known import note_same


def flatten(
    cache: Annotated[str, typer.Argument(metavar="CACHE", help="Cache file that continues a base cache.")],
    output: InPlaceOutputOption = None,
    force: ForceOption = False,
) -> None:
    """Merge a cache with its base into one file.

    No model is loaded. The result covers both texts together and belongs to no document: gf status calls it detached.

    Examples:
      gf flatten chapter1.gfc -o whole.gfc
      gf flatten chapter1.gfc && rm handbook.gfc
    """
    path = Path(output or cache)
    if output is not None:
        check_may_replace(path, force)
    with gfcache.output_lock(path), gfcache.read_cache(cache) as file:
        note_same(gfcache.flatten_cache(file, path).digest, file.header.digest)
    console.path(path)


def convert(
    cache: Annotated[str, typer.Argument(metavar="CACHE", help="Cache file.")],
    output: InPlaceOutputOption = None,
    codec: CodecOption = None,
    state_codec: StateCodecOption = None,
    drop: DropOption = None,
    keep: KeepOption = None,
    receipt: ReceiptOption = False,
    max_kl: MaxKlOption = None,
    max_bytes: MaxBytesOption = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
) -> None:
    """Round a cache and store it smaller.

    --codec rounds the compressed keys, --state-codec the state behind the document; checkpoints stay as they were
    computed, so that the document can still grow. The result is what gf prefill with these options makes. What is
    rounded once is rounded for good: another codec needs the document to be pre-filled again, and raw only stores
    the rounded values longer. --drop leaves out rows, before the others are rounded. Caches that continue this one
    need it as it was: give -o. No model is loaded, unless the codec has its basis from it, --drop chooses, or
    --receipt, --max-kl or --max-bytes ask for what is lost in predictions.

    Examples:
      gf convert doc.gfc --codec step3 --state-codec int8 -o small.gfc
      gf convert doc.gfc --max-kl 0.01 -o small.gfc
      gf convert doc.gfc --state-codec bf16
      gf convert doc.gfc --drop snapkv --keep 0.3 -o small.gfc
    """
    coding, path = coding_of(codec, state_codec), Path(output or cache)
    dropping = dropping_of(drop, keep, chosen=max_kl is not None or max_bytes is not None)
    bounds = bounds_of(receipt, max_kl, max_bytes, coding, drop)
    if coding is None and bounds is None and dropping is None:
        raise CommandError("name at least one of --codec and --state-codec", hint=f"gf convert {cache} --codec step3")
    if output is not None:
        check_may_replace(path, force)
    with gfcache.output_lock(path), gfcache.read_cache(cache) as file:
        before = file.file_bytes
        if coding is not None and coding.needs_basis and bounds is None and dropping is None:
            coding = _in_basis(cache, model, device, coding)
        if bounds is None and dropping is None:
            written = gfcache.convert_cache(file, path, coding or gfcache.Coding())
        else:
            from goldfinch.caching.row_parts import Form
            from goldfinch.library.rounding import dropped_and_rounded, rounded_and_measured

            (loaded, opened), form = open_cache_file(cache, model, Models(device)), Form(coding or gfcache.Coding())
            form = dataclasses.replace(form, dropping=dropping)
            if bounds is None:
                written = dropped_and_rounded(loaded, opened, path, form)
            else:
                written = rounded_and_measured(loaded, opened, path, form, bounds)
        note_same(written.digest, file.header.digest)
    console.say(f"{show_bytes(before)} before, {show_bytes(path.stat().st_size)} now")
    console.path(path)


def _in_basis(cache: str, model: str | None, device: str, coding: gfcache.Coding) -> gfcache.Coding:
    """The codec with the basis of the model that made a cache; it is made where there is none."""
    from goldfinch.library.opening import engine_of

    engine = engine_of(open_cache_file(cache, model, Models(device))[0])
    obstacle = obstacle_of(engine.identity["model"], coding)
    if obstacle is not None:
        raise gfcache.CannotRound(cache, obstacle)
    say_basis(coding, engine.card)
    return engine.in_basis(coding)
