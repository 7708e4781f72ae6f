"""Where a cache goes, and whether what is there may be replaced."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gfcache
from gfcache import layout

from goldfinch.errors import NoSuchFolder, NotACache, NotReplaced, OutputError, OutputNeeded, OutputTaken
from goldfinch.text.documents import Document

from .sources import relative_folder


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
        OutputNeeded: stdin without an output.
        OutputTaken: no name is left.
    """
    if output is not None and not is_folder(output):
        return Path(output)
    if document.path is None:
        raise OutputNeeded(f"a document from {document.label} needs an output file")
    places = [mirrored, relative_folder(document.path)] if output is not None else ["."]
    for place in dict.fromkeys(places):
        folder = Path(output) / place if output is not None else document.path.parent
        if place != ".":
            folder.mkdir(parents=True, exist_ok=True)
        short, long = (folder / (name + layout.SUFFIX) for name in (document.path.stem, document.path.name))
        if real(short) not in taken and not is_of_another(short, document.source):
            return short
        if real(long) not in taken:
            return long
    raise OutputTaken(long, f"{document.label}: {long} is already the output of another document of this call")


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


def check_place(path: Path) -> None:
    """Refuse an output that is a folder, or lies in one that does not exist.

    Raises:
        OutputError, NoSuchFolder: as said.
    """
    if path.is_dir():
        raise OutputError(path, f"{path} is a directory, expected a file name")
    if not path.parent.is_dir():
        raise NoSuchFolder(path, f"the folder {path.parent} does not exist")


def check_replaceable(path: Path, source: dict[str, Any], prefill_fingerprint: str, force: bool) -> None:
    """Refuse to replace a cache that is anything but this document's by this model, and every file that is no cache.

    Args:
        force: replace any cache; a file that is none, the document itself for instance, stays all the same.

    Raises:
        NotACache, NotReplaced: as said.
    """
    if not path.exists():
        return
    try:
        with gfcache.read_cache(path) as cache:
            old = cache.header
    except gfcache.NotACacheFile as error:
        raise NotACache(path, f"{path} exists and is no cache") from error
    except gfcache.CacheFormatError as error:
        if force:
            return
        raise NotReplaced(path, f"{path} exists and is not a readable cache: {error}") from error
    if force:
        return
    if not is_same_source(old, source):
        name = (old.source or {}).get("path") or (old.source or {}).get("name") or "an unknown source"
        raise NotReplaced(path, f"{path} exists and was made from {name}")
    if old.model["prefill_fingerprint"] != prefill_fingerprint:
        name, weights = old.model.get("name"), old.model["prefill_fingerprint"][:12]
        made = f"made by model {name!r} with weights {weights}, here {prefill_fingerprint[:12]}"
        raise NotReplaced(path, f"{path} exists and was {made}")


def check_not_base(path: Path, base: Path) -> None:
    """Refuse to replace a base cache, or one that it continues, by its own child.

    Raises:
        NotACache: as said.
    """
    if path.exists() and any(path.samefile(place) for place in (base, *gfcache.ancestors(base))):
        raise NotACache(path, f"{path} is the base cache itself, or one it continues")
