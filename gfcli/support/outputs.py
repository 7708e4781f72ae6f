"""Where a cache goes, and whether what is there may be replaced."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import gfcache

from goldfinch.text.documents import Document

from .documents import STDIN
from .exits import CommandError
from .sources import relative_folder

SUFFIX = ".gfc"
P = TypeVar("P", str | None, Path | None)


def is_folder(output: str) -> bool:
    """Whether an output names a folder: it ends in a slash or is one."""
    return output.endswith(("/", os.sep)) or Path(output).is_dir()


def output_path(document: Document, output: str | None, taken: set[Path], mirrored: str = ".") -> Path:
    """The cache file of a document.

    `doc.txt` gives `doc.gfc` beside it, or in the folder that `output` names. When that name belongs to another
    document, in this call or on disk, the whole name is kept: `doc.md.gfc`; and when that one is taken, too, the
    folder of the document is kept below the output folder.

    Args:
        taken: real paths (links resolved) of other outputs of this call.
        mirrored: folder below an output folder, made when it is not there.

    Raises:
        CommandError: stdin without an output, or no name left.
    """
    if output is not None and not is_folder(output):
        return Path(output)
    if document.path is None:
        raise CommandError("a document from stdin needs an output file", hint="add -o NAME.gfc")
    places = [mirrored, relative_folder(document.path)] if output is not None else ["."]
    for place in dict.fromkeys(places):
        folder = Path(output) / place if output is not None else document.path.parent
        if place != ".":
            folder.mkdir(parents=True, exist_ok=True)
        short, long = (folder / (name + SUFFIX) for name in (document.path.stem, document.path.name))
        if real(short) not in taken and not is_of_another(short, document.source):
            return short
        if real(long) not in taken:
            return long
    raise CommandError(
        f"{document.label}: {long} is already the output of another document of this call",
        hint="documents of one name in different folders: gf prefill -r FOLDER -o DIR/",
    )


def real(path: Path) -> Path:
    """The path with links resolved, whether it exists or not: two names of one file are one output."""
    return Path(os.path.realpath(path))


def is_of_another(path: Path, source: dict[str, Any]) -> bool:
    """Whether there is a cache at `path` of another document. What cannot be read is nobody's."""
    try:
        with gfcache.read_cache(path) as cache:
            return not is_same_source(cache.header, source)
    except (OSError, gfcache.CacheFormatError):
        return False


def is_same_source(header: gfcache.Header, source: dict[str, Any]) -> bool:
    """Whether a cache was made from this document (same place, or same bytes)."""
    old = header.source or {}
    same_place = old.get("path") is not None and old["path"] == source["path"]
    return same_place or old.get("sha256") == source["sha256"]


def check_folder(path: Path) -> None:
    """Refuse an output in a folder that does not exist, or that is a folder itself.

    Raises:
        CommandError: exit 2, with the way out.
    """
    if str(path) == STDIN:
        raise CommandError("-o is -, expected a file name: caches and records go into files", hint="-o NAME")
    if path.is_dir():
        raise CommandError(f"{path} is a directory, expected a file name")
    if not path.parent.is_dir():
        raise CommandError(f"the folder {path.parent} does not exist", hint=f"mkdir -p {path.parent}")


def check_may_replace(path: Path, force: bool, safetensors: bool = False) -> None:
    """Refuse to replace a file: without `force` any, with it one that is no cache (or no safetensors file).

    Raises:
        CommandError: exit 2, with the way out.
    """
    if not path.exists():
        return
    hint = "choose another output with -o"
    with open(path, "rb") as stream:
        start = stream.read(9)
    # A safetensors file begins with the length of its header, eight bytes, and the header, an object.
    if not (start[8:] == b"{" if safetensors else start.startswith(gfcache.layout.MAGIC)):
        raise CommandError(f"{path} exists and is no {'safetensors file' if safetensors else 'cache'}", hint=hint)
    if not force:
        raise CommandError(f"{path} exists", hint=f"{hint}, or replace it with --force")


def checked_output(path: P) -> P:
    """An output file as an option names it, refused before anything is computed for it; see `check_folder`."""
    if path is not None:
        check_folder(Path(path))
    return path


def check_replaceable(path: Path, source: dict[str, Any], prefill_fingerprint: str, force: bool) -> None:
    """Refuse to replace a cache that is anything but this document's by this model, and every file that is no cache.

    Args:
        force: replace any cache; a file that is none, the document itself for instance, stays all the same.

    Raises:
        CommandError: exit 2, with the way out.
    """
    if not path.exists():
        return
    hint = "choose another output with -o, or replace it with --force"
    try:
        with gfcache.read_cache(path) as cache:
            old = cache.header
    except gfcache.NotACacheFile as error:
        raise CommandError(f"{path} exists and is no cache", hint="choose another output with -o") from error
    except gfcache.CacheFormatError as error:
        if force:
            return
        raise CommandError(f"{path} exists and is not a readable cache: {error}", hint=hint) from error
    if force:
        return
    if not is_same_source(old, source):
        name = (old.source or {}).get("path") or (old.source or {}).get("name") or "an unknown source"
        raise CommandError(f"{path} exists and was made from {name}", hint=hint)
    if old.model["prefill_fingerprint"] != prefill_fingerprint:
        name, old_weights = old.model.get("name"), old.model["prefill_fingerprint"][:12]
        raise CommandError(
            f"{path} exists and was made by model {name!r} with weights {old_weights}, here {prefill_fingerprint[:12]}",
            hint=hint,
        )
