"""Whether a cache still belongs to its source file: the rules behind gf status, gf refresh and gf ask --explain."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gfcache
from gfcache import Header

from goldfinch.errors import GoldFinchError, NotItsDocument
from goldfinch.text.documents import Document, Reading, read_document
from goldfinch.text.encodings import allowed_encoding
from goldfinch.text.prepare import NORMALISED, WITHOUT_BLOBS
from goldfinch.weights.directory import find_model_by_fingerprint

from .known import has_token_ids_of, holds_text, how_known
from .reach import Reach

if TYPE_CHECKING:
    from goldfinch.weights.directory import ModelCard


FRESH, STALE, ORPHANED, DETACHED, BROKEN, DAMAGED = "fresh", "stale", "orphaned", "detached", "broken", "damaged"
UNREAD = "unread"
# Files of a folder that may be the source by their size.
_MOST_LOOKED_AT = 10_000
STATES = {
    FRESH: "the source is what was pre-filled",
    STALE: "the source has changed since",
    ORPHANED: "the source is gone, or is not a file any more",
    DETACHED: "made from stdin, or changed by append or truncate: no source to compare with",
    BROKEN: "the base cache is gone, was replaced or is damaged",
    DAMAGED: "not a readable cache, one whose checksums do not hold, or of another text than its source",
    UNREAD: "the source or a base lies where this command was not pointed at, and no run of yours has read it there",
}


def source_state(header: Header, cache: Path, reach: Reach | None = None) -> tuple[str, str | None]:
    """FRESH, STALE, ORPHANED, DETACHED or UNREAD, from the bytes of the source file, and where that is.

    The source is the first file with the very bytes that were pre-filled: at the noted place seen from the cache (both
    were moved together), at the noted path, under its name beside the cache, or any beside one of these. If none has
    them, the file at the noted path has changed, or, where that is gone, the one at the place seen from the cache.
    Other files may be anybody's.

    Args:
        cache: the file that the header was read from.
        reach: where sources may be read; by default in the current folder and beside the cache.
    """
    reach = Reach() if reach is None else reach
    source = header.source or {}
    path = source.get("path")
    if path is None or source.get("sha256") is None:
        return DETACHED, path

    def state_at(place: Path | None) -> str:
        if place is None or not reach.allows(place, cache, header):
            return UNREAD
        return _compare(place, source)

    seen, beside = place_seen_from(cache, source), Path(os.path.abspath(cache)).parent / Path(path).name
    at_seen, at_path = state_at(seen), state_at(Path(path))
    if at_seen == FRESH:
        return FRESH, str(seen)
    if at_path in (FRESH, STALE) or (at_path == ORPHANED and os.path.lexists(path)):
        return at_path, path
    if state_at(beside) == FRESH:
        return FRESH, str(beside)
    folders = dict.fromkeys(p.parent for p in (seen, beside) if p is not None and reach.allows(p, cache, header))
    for place in _of_as_many_bytes(folders, source.get("bytes")):
        if state_at(place) == FRESH:
            return FRESH, str(place)
    return (at_seen, str(seen)) if at_seen == STALE else (at_path, path)


def place_seen_from(cache: Path, source: Mapping[str, Any]) -> Path | None:
    """Where the source lies if it was moved together with its cache; None where that is not noted."""
    noted = source.get("relative_path")
    return None if noted is None else Path(os.path.normpath(Path(os.path.realpath(cache.parent)) / noted))


def is_at(place: str | None, header: Header, cache: Path) -> bool:
    """Whether the source that a cache notes lies at an absolute path: it was there, or it was moved there with it."""
    source = header.source or {}
    if place is None or source.get("path") is None:
        return False
    if source["path"] == place:
        return True
    seen = place_seen_from(cache, source)
    is_moved = seen is not None and os.path.realpath(seen) == os.path.realpath(place)
    return is_moved and not os.path.lexists(source["path"])


def _of_as_many_bytes(folders: Iterable[Path], size: int | None) -> Iterator[Path]:
    """Files of a size in folders, nothing hidden, by name."""
    for folder in folders:
        found = []
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in itertools.islice(entries, _MOST_LOOKED_AT):
                with contextlib.suppress(OSError):
                    if not entry.name.startswith(".") and entry.is_file() and entry.stat().st_size == size:
                        found.append(folder / entry.name)
        yield from sorted(found)


def _compare(path: Path, source: Mapping[str, Any]) -> str:
    """FRESH, STALE or ORPHANED: a file against what a cache says of its source."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):  # a pipe or device, which a foreign cache may name, may never end
            return ORPHANED
        if found.st_size != source.get("bytes"):
            return STALE
        with open(path, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return ORPHANED
    return FRESH if digest == source["sha256"] else STALE


def cache_state(path: Path, reach: Reach | None = None) -> dict[str, Any]:
    """One row of gf status: path, state, source, tokens, bytes, model, codec, state_codec, dropping; no tokens when
    nothing can be read.

    Args:
        reach: as in `source_state`.
    """
    row: dict[str, Any] = {"path": str(path), "source": None, "tokens": None, "bytes": None, "model": None}
    row |= {"codec": None, "state_codec": None, "dropping": None}
    reach = Reach() if reach is None else reach
    try:
        with gfcache.read_cache(path) as file:
            header = file.header
        state, place = source_state(header, path, reach)
        _, closed = reach.chain(path)
        row |= {
            "source": place or (header.source or {}).get("name"),
            "tokens": header.tokens,
            "bytes": path.stat().st_size,
            "model": header.model.get("name"),
            "codec": header.numerics.get("rows_codec"),
            "state_codec": header.numerics.get("state_codec"),
            "dropping": header.numerics.get("dropping"),
        }
        if closed is not None:
            return row | {"state": UNREAD, "message": unread_words(str(closed))}
        if not _verified(path) and state in (FRESH, DETACHED):
            state = BROKEN
        if state == UNREAD:
            row["message"] = unread_words(place)
        elif state == FRESH and place is not None and not _holds_source(path, header, place):
            if how_known(header.digest) is None:
                state, row["message"] = DAMAGED, "its token ids are not those of its source"
            else:
                state, row["message"] = STALE, "its source is read in another encoding now"
    except (OSError, gfcache.CacheFormatError) as error:
        return {"state": DAMAGED, **row, "message": str(error)}
    return {"state": state, **row}


def unread_words(source: str | None) -> str:
    """Which source or base was not read, and how to allow it."""
    folder = os.path.dirname(source or "") or "/"
    return f"{source} was not read: it is outside of what was named; to allow it, name {folder}, too, or run there"


def _holds_source(path: Path, header: Header, place: str) -> bool:
    """Whether a file whose source has the bytes that it names is of that text."""
    try:
        document = read_again(place, header)
        card = find_model_by_fingerprint(header.model["prefill_fingerprint"], header.model["model_fingerprint"])
    except (OSError, GoldFinchError):
        return True
    return holds_text(path, header, document, card, end=True)


def reading_of(header: Header, *, as_it_was: bool) -> Reading:
    """How the document of a cache was read, as that notes it.

    Args:
        as_it_was: in the encoding that is noted, whatever the bytes say.
    """
    source = header.source or {}
    encoding, prepared = allowed_encoding(source.get("encoding")), source.get("prepared") or ""
    return Reading(encoding if as_it_was else None, encoding, NORMALISED not in prepared, WITHOUT_BLOBS in prepared)


def read_again(place: str, header: Header) -> Document:
    """The source of a cache, which has the bytes that were pre-filled, in the encoding that they were read in.

    A file that no run of this user knows gives that only for bytes that do not say themselves what they are: else it
    could make another text of them.

    Raises:
        the errors of `read_document`.
    """
    return read_document(place, reading_of(header, as_it_was=how_known(header.digest) is not None))


def check_unknown(path: Path, header: Header, reach: Reach | None = None) -> None:
    """Compare the token ids of a file that no run of this user knows with its source, where that is at hand as it was.

    Args:
        reach: as in `source_state`.

    Raises:
        NotItsDocument: they are others.
    """
    if how_known(header.digest) is None:
        state, place = source_state(header, path, reach)
        if state == FRESH and place is not None and not _holds_source(path, header, place):
            raise NotItsDocument(path, place)


def check_source(path: Path, header: Header, card: ModelCard | None, reach: Reach | None = None) -> bool | None:
    """Whether the token ids of a file are those of its source; None where that is not at hand as it was.

    Args:
        card: of the model of the file.
        reach: as in `source_state`.
    """
    state, place = source_state(header, path, reach)
    if state != FRESH or place is None or card is None or card.tokenizer_file is None:
        return None
    try:
        text = read_again(place, header).text
    except (OSError, GoldFinchError):
        return None
    return has_token_ids_of(text, path, header, card, end=True)


def _verified(path: Path) -> bool:
    """Whether the bases of a cache hold, too.

    Raises:
        CacheFormatError: the file itself is damaged.
    """
    try:
        gfcache.verify_cache(path, complete=True)
    except (gfcache.ParentMissing, gfcache.ParentChanged):
        return False
    except gfcache.CacheFormatError as error:
        if error.path == str(path):
            raise
        return False
    return True


def compare_identity(header: Header, card: ModelCard) -> list[dict[str, Any]]:
    """Each fingerprint of the cache beside the model's: name, cache, model, same."""
    template = card.template.prefix_fingerprint()
    pairs = (
        ("prefill_fingerprint", header.model["prefill_fingerprint"], card.prefill_fingerprint),
        ("model_fingerprint", header.model["model_fingerprint"], card.model_fingerprint),
        ("tokenizer_fingerprint", header.tokenizer.get("fingerprint"), card.tokenizer_fingerprint),
        ("template_prefix_fingerprint", header.template["prefix_fingerprint"], template),
    )
    return [{"name": name, "cache": a, "model": b, "same": a == b} for name, a, b in pairs]


def first_divergent_token(model: Any, cache: Any, text: str) -> int | None:
    """Position of the first token at which a text, as a document, departs from a cached one; its end at the latest."""
    from goldfinch.engine.checkpoints import first_difference

    from .changes import document_token_ids

    ids, _ = document_token_ids(model, text)
    differs = first_difference(cache.token_ids, ids)
    return min(len(ids), cache.length) if differs is None else differs
