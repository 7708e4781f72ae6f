"""Which cached documents a server has, and what each is called: those of the library, or files that were named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

import gfcache
from gfcache import Entry, Header, Store

from .refused import Refused

# Names that are given to whoever asked for one that is not there.
NEAREST = 3


@dataclass(frozen=True)
class Shelved:
    """A cached document.

    Attributes:
        name: by which it is asked for.
        others: that mean it as well.
        path: its cache file.
        digest: of that.
        sha256: of the document's bytes, None where unknown.
        tokens: T.
        bytes: of the file.
        model: the name of the model that made it, None where unknown.
    """

    name: str
    others: tuple[str, ...]
    path: Path
    digest: str
    sha256: str | None
    tokens: int
    bytes: int
    model: str | None


class Shelf(Protocol):
    """The documents of a server. Any thread may ask."""

    def documents(self) -> list[Shelved]:
        """All that can be read now, by name."""

    def remove(self, document: Shelved) -> None:
        """Remove a document for good.

        Raises:
            Refused: it stays.
        """


class LibraryShelf:
    """The library of the user.

    Args:
        open_store: the store, opened anew for each use: threads share none.
        wanted: which entries; all by default.
    """

    def __init__(self, open_store: Callable[[], Store], wanted: Callable[[Entry], bool] = lambda entry: True) -> None:
        self._open_store, self._wanted = open_store, wanted

    def documents(self) -> list[Shelved]:
        with self._open_store() as store:
            entries = [entry for entry in store.entries() if _is_asked(entry) and self._wanted(entry)]
            return _named(_of_entry(store, entry) for entry in sorted(entries, key=lambda e: -e.last_used))

    def remove(self, document: Shelved) -> None:
        with self._open_store() as store:
            entries = [entry for entry in store.entries() if store.path(entry) == document.path]
            done = store.remove(entries)
        if done.skipped:
            raise Refused(409, f"{document.name} stays: {done.skipped[0][1]}", code="cache_kept", param="name")


class FileShelf:
    """Cache files that were named; what becomes of them is seen at once.

    Args:
        paths: of the files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)

    def documents(self) -> list[Shelved]:
        return _named(one for path in self._paths if (one := _of_file(path)) is not None)

    def remove(self, document: Shelved) -> None:
        raise Refused(409, "these caches are files of the user's: they are not removed here", code="cache_kept")


def find(documents: Sequence[Shelved], name: str, param: str) -> Shelved:
    """The document that a request names.

    Args:
        param: the field of the request.

    Raises:
        Refused: 404, there is none of the name.
    """
    for document in documents:
        if document.name == name:
            return document
    fits = [document for document in documents if name in document.others]
    if len(fits) == 1:
        return fits[0]
    names = sorted(document.name for document in (fits or documents))
    near = names[:NEAREST] if fits else get_close_matches(name, names, NEAREST, 0.4) or names[:NEAREST]
    known = ", ".join(repr(one) for one in near)
    what = f"there are several caches called {name!r:.200}" if fits else f"there is no cache called {name!r:.200}"
    hint = f"there is {known}" if known else "there is none at all: POST /v1/caches makes one"
    raise Refused(404, what, code="cache_not_found", param=param, hint=hint)


def of_text(documents: Sequence[Shelved], sha256: Iterable[str]) -> Shelved | None:
    """The document that has one of these digests, or None."""
    wanted = set(sha256)
    return next((document for document in documents if document.sha256 in wanted), None)


def _is_asked(entry: Entry) -> bool:
    """Not of one that cannot be read, nor of an earlier text, which is there for the blocks that it lends."""
    return entry.error is None and not entry.is_set_aside


def _of_entry(store: Store, entry: Entry) -> Shelved:
    others = tuple(name for name in (entry.id, entry.source_path) if name)
    name = entry.source_name or entry.id
    return Shelved(
        name, others, store.path(entry), entry.digest, entry.source_sha256, entry.tokens or 0, entry.bytes, entry.model
    )


def _of_file(path: Path) -> Shelved | None:
    try:
        with gfcache.read_cache(path) as file:
            header: Header = file.header
        size = path.stat().st_size
    except (OSError, gfcache.CacheFormatError):
        return None
    source = header.source or {}
    others = tuple(name for name in (path.name, str(path), source.get("name")) if name)
    model = header.model.get("name")
    return Shelved(path.stem, others, path, header.digest, source.get("sha256"), header.tokens, size, model)


def _named(documents: Iterable[Shelved]) -> list[Shelved]:
    """Each under a name of its own: what two would be called, the later ones are called by their place or digest."""
    found = list(documents)
    counts, taken, named = Counter(one.name for one in found), set[str](), list[Shelved]()
    for one in found:
        name = one.name
        if name in taken:
            name = next((other for other in one.others if other not in taken and other not in counts), one.digest[:12])
        taken.add(name)
        mine = (one.name, *one.others) if name == one.name else one.others
        named.append(Shelved(name, mine, one.path, one.digest, one.sha256, one.tokens, one.bytes, one.model))
    return sorted(named, key=lambda document: document.name)
