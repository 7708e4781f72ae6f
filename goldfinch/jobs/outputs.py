"""Where a cache goes, and whether what is there may be replaced."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gfcache
from gfcache import layout
from gfcache.files.names import fitting

from goldfinch.errors import NoSuchFolder, NotACache, NotReplaced, OutputError, OutputNeeded, OutputTaken
from goldfinch.library.changes import is_truncated
from goldfinch.library.freshness import is_at
from goldfinch.text.documents import Document

from .sources import STDIN, Source


def is_folder(output: str) -> bool:
    """Whether an output names a folder: it ends in a slash or is one."""
    return output.endswith(("/", os.sep)) or Path(output).is_dir()


class OutputNames:
    """The cache files of the documents of one call, each with its own.

    `doc.txt` gives `doc.gfc` beside it, or in the folder that `output` names. Where documents of the call would have
    the same file, all of them keep their whole names (`doc.txt.gfc`, `doc.md.gfc`); where these are the same, too, in
    an output folder, all lie below it in the folders that tell them apart. So the names depend on the call, not on
    the order of its documents. A file that was there before and belongs to another document keeps its name: the
    newcomer takes its whole name.

    Args:
        output: a file, or a folder; None for beside each document.
        sources: all documents of the call.
    """

    def __init__(self, output: str | None, sources: Sequence[Source]) -> None:
        self._folder = Path(output) if output is not None and is_folder(output) else None
        self._file = Path(output) if output is not None and self._folder is None else None
        files = [source for source in sources if source.name != STDIN and source.obstacle is None]
        if self._folder is None:
            files = [source for source in files if not _is_pipe(source.name)]
        common = _common_folder(files) if self._folder is not None else None
        self._names: dict[str, list[Path]] = {source.name: self._candidates(source, common) for source in files}
        self._chosen = _apart(self._names)
        self._taken = _documents_at({name: real(place) for name, place in self._chosen.items()})

    def _candidates(self, source: Source, common: str | None) -> list[Path]:
        """Files that a document may have, in the order in which they are tried."""
        path = Path(source.name)
        names = [fitting(name, len(layout.SUFFIX)) + layout.SUFFIX for name in (path.stem, path.name)]
        if self._folder is None:
            return [path.parent / name for name in names]
        folders = [source.folder]
        if common is not None:
            folders.append(os.path.relpath(os.path.abspath(path.parent), common))
        return [self._folder / folder / name for folder in dict.fromkeys(folders) for name in names]

    def of(self, source: Source, document: Document) -> Path:
        """The cache file of a document that was read. Its folder is made below an output folder.

        Raises:
            OutputNeeded: stdin or a pipe without an output.
            OutputTaken: other documents of the call would have the same file.
        """
        if self._file is not None:
            return self._file
        if source.name not in self._chosen:
            raise OutputNeeded(f"a document from {document.label} needs an output file")
        path = self._chosen[source.name]
        if self._taken[real(path)] > 1:
            raise OutputTaken(path, f"{document.label}: {path} would be that of another document of this call, too")
        candidates = self._names[source.name]
        at = candidates.index(path)
        if at % 2 == 0 and self._yields(path, candidates[at + 1], document):
            path = candidates[at + 1]
        if self._folder is not None and path.parent != self._folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def left_to_another(self, source: Source, path: Path) -> Path | None:
        """The short name that the cache of a document would have if another document's cache were not there."""
        short = self._chosen.get(source.name)
        return short if short is not None and real(short) != real(path) and short.exists() else None

    def _yields(self, short: Path, long: Path, document: Document) -> bool:
        """Whether a document leaves the short name to another, or has its cache under the long one already."""
        if self._taken[real(long)]:
            return False
        if short.exists():
            return is_of_another(short, document)
        return _is_made_from(long, document.source)


def _is_pipe(name: str) -> bool:
    """Whether a document is a pipe, as of `<(command)`: no cache stands beside it."""
    try:
        return stat.S_ISFIFO(os.stat(name).st_mode)
    except (OSError, ValueError):
        return False


def _common_folder(sources: Sequence[Source]) -> str | None:
    folders = {os.path.abspath(os.path.dirname(source.name)) for source in sources}
    return os.path.commonpath(folders) if folders else None


def _apart(names: dict[str, list[Path]]) -> dict[str, Path]:
    """One file for each document: all that would have the same one go on to their next, as far as they have one."""
    at = dict.fromkeys(names, 0)
    places = {name: real(candidates[0]) for name, candidates in names.items()}
    while True:
        count = _documents_at(places)
        moved = [name for name, place in places.items() if count[place] > 1 and at[name] + 1 < len(names[name])]
        if not moved:
            return {name: candidates[at[name]] for name, candidates in names.items()}
        for name in moved:
            at[name] += 1
            places[name] = real(names[name][at[name]])


def _documents_at(places: Mapping[str, Path]) -> Counter[Path]:
    """How many documents would be at each place; a file that the call names twice, through a link, is one."""
    return Counter(place for place, _ in {(place, real(Path(name))) for name, place in places.items()})


def real(path: Path) -> Path:
    """The path with links resolved, whether it exists or not: two names of one file are one output."""
    return Path(os.path.realpath(path))


def is_of_another(path: Path, document: Document) -> bool:
    """Whether there is a cache at `path` of another document. What cannot be read is nobody's."""
    try:
        with gfcache.read_cache(path) as cache:
            return not is_same_source(cache.header, path, document)
    except (OSError, gfcache.CacheFormatError):
        return False


def _is_made_from(path: Path, source: dict[str, Any]) -> bool:
    """Whether there is a cache at `path` of the document in this place."""
    try:
        with gfcache.read_cache(path) as cache:
            return is_at(source["path"], cache.header, path)
    except (OSError, gfcache.CacheFormatError):
        return False


def is_same_source(header: gfcache.Header, path: Path, document: Document) -> bool:
    """Whether the cache at `path` was made from this document: same place, perhaps moved, same bytes, or grown since.

    What was appended to a cache has no place. Once the document holds all of that, it takes the cache over. One that
    was truncated was so on purpose, and stays.
    """
    noted, source = header.source or {}, document.source
    if is_at(source["path"], header, path) or noted.get("sha256") == source["sha256"]:
        return True
    if noted.get("path") is not None or not noted.get("bytes") or is_truncated(noted):
        return False
    data = document.text.encode()[: noted["bytes"]]
    return len(data) == noted["bytes"] and hashlib.sha256(data).hexdigest() == noted.get("sha256")


def check_place(path: Path) -> None:
    """Refuse an output that is a folder, or lies in one that does not exist.

    Raises:
        OutputError, NoSuchFolder: as said.
    """
    if path.is_dir():
        raise OutputError(path, f"{path} is a directory, expected a file name")
    if not path.parent.is_dir():
        raise NoSuchFolder(path, f"the folder {path.parent} does not exist")


def check_replaceable(path: Path, document: Document, prefill_fingerprint: str, force: bool) -> None:
    """Refuse to replace a cache that is anything but this document's by this model, and every file that is not a cache.

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
        raise NotACache(path, f"{path} exists and is not a cache") from error
    except gfcache.CacheFormatError as error:
        if force:
            return
        raise NotReplaced(path, f"{path} exists and is not a readable cache: {error}") from error
    if force:
        return
    if not is_same_source(old, path, document):
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
