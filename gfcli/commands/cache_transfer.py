"""gf cache export and import: caches on their way to another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import gfcache
import typer
from gfcache import Entry, Store, layout
from gfcache.files.locks import sweep
from gfcache.files.temporary import temporary_folder

from gfcli.support.console import console, printable
from gfcli.support.exits import CommandError
from gfcli.support.filters import chosen
from gfcli.support.options import QuietOption
from gfcli.support.outputs import check_folder, check_may_replace
from gfcli.support.store import open_store, say_removed
from gfcli.support.tally import Failures
from gfcli.support.values import show_bytes
from goldfinch.jobs.outputs import is_folder
from goldfinch.library.known import note_same

from .cache import Filters, Targets, entries_of


def export(
    targets: Targets = None,
    filters: Filters = None,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE|DIR/", help="Where to write; a folder for several caches.")
    ] = "./",
    safetensors: Annotated[
        bool, typer.Option("--safetensors", help="Write plain tensors for other programs; gf cannot import them.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Copy caches out of the library.

    Writes self-contained .gfc files, or safetensors. gf cache import and gf ask --cache take a .gfc on any machine
    that has the same model. It holds the document's tokens in clear.

    Examples:
      gf cache export doc.txt -o copy.gfc
      gf cache export --filter tag=kb -o kb/
      gf cache export doc.txt --safetensors -o doc.safetensors
    """
    console.quiet = quiet
    suffix = ".safetensors" if safetensors else layout.SUFFIX
    with open_store() as store:
        found = chosen(store, entries_of(store), targets or [], filters or [])  # the reader refuses damaged ones
        into_folder = is_folder(output)
        if len(found) > 1 and not into_folder:
            raise CommandError(
                f"{len(found)} caches do not go into one file {output}", hint=f"name a folder: -o {output}/"
            )
        if into_folder:
            Path(output).mkdir(parents=True, exist_ok=True)
        else:
            check_folder(Path(output))
        taken: set[Path] = set()
        for entry in found:
            path = Path(output) if not into_folder else _free_name(Path(output), entry, suffix, taken)
            taken.add(path)
            if not safetensors and _is_there(path, entry):
                sweep(path)
                console.path(path)
                continue
            check_may_replace(path, force, safetensors)
            if safetensors:
                gfcache.export_safetensors(store.path(entry), path)
            elif not entry.rests_on:
                gfcache.verify_cache(store.path(entry), complete=True)
                gfcache.copy_cache(store.path(entry), path)
            else:
                note_same(gfcache.flatten_cache(store.path(entry), path).digest, entry.digest)
            console.path(path)


def _free_name(folder: Path, entry: Entry, suffix: str, taken: set[Path]) -> Path:
    """`doc.gfc`, or `doc-ID.gfc` when another cache of this call has that name."""
    stem = Path(printable(entry.source_name or entry.id)).stem or entry.id
    path = folder / f"{stem}{suffix}"
    return folder / f"{stem}-{entry.id}{suffix}" if path in taken else path


def import_(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Cache files (.gfc).")],
    quiet: QuietOption = False,
) -> None:
    """Copy cache files into the library.

    gf ask then finds them by the text of the document, wherever that file is. Every checksum is verified first. A file
    that continues a base cache is merged with it; the result covers both texts and belongs to no document, so ask it
    through gf cache export and gf ask --cache.

    Examples:
      gf cache import doc.gfc
      gf cache import kb/*.gfc
      scp other:kb/doc.gfc . && gf cache import doc.gfc && gf ask doc.txt "Who signed?"
    """
    console.quiet = quiet
    failures = Failures()
    with open_store(keep_cap=True) as store:
        for name in files:
            try:
                entry = _import_one(store, Path(name))
            except (OSError, gfcache.CacheFormatError, CommandError) as error:
                if len(files) == 1:
                    raise
                failures.note(name, error)
                continue
            console.line(entry.id)
            console.say(f"{name}: {entry.tokens:,} tokens, {show_bytes(entry.bytes)}")
    failures.end()


def _is_there(path: Path, entry: Entry) -> bool:
    """Whether an earlier export of this very cache is there."""
    try:
        return path.is_file() and gfcache.verify_cache(path).digest == entry.digest
    except (OSError, gfcache.CacheFormatError):
        return False


def _import_one(store: Store, path: Path) -> Entry:
    header = gfcache.verify_cache(path, complete=True)
    with temporary_folder("import") as folder:
        whole = path
        if header.parent is not None or header.lenders:
            whole = folder / "whole.gfc"
            with gfcache.read_cache(path) as file:
                header = gfcache.flatten_cache(file, whole)
                note_same(header.digest, file.header.digest)
        target = _place(store, header)
        store.make_folders(target)
        with gfcache.output_lock(target), store.writing(target, whole.stat().st_size) as room:
            say_removed(store, room)
            gfcache.copy_cache(whole, target)
        return store.added(target)


def _place(store: Store, header: gfcache.Header) -> Path:
    """Where an imported cache goes: where one of a text from stdin would be, unless another intact one is there."""
    identity, sha256 = gfcache.header_identity(header), (header.source or {}).get("sha256")
    target = store.path_of(identity, f"sha256:{sha256 or header.digest}")
    try:
        if gfcache.verify_cache(target).digest != header.digest:
            return store.path_of(identity, f"imported:{header.digest}")
    except (OSError, gfcache.CacheFormatError):  # nothing there, or nothing of use
        pass
    return target
