"""Whether the cache that is there is good enough: what a run would make."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gfcache
from gfcache import Coding

from goldfinch.library.freshness import place_seen_from
from goldfinch.library.known import holds_text, is_read_otherwise
from goldfinch.library.opening import planned_by
from goldfinch.measure.choosing import Bounds
from goldfinch.policies.dropping.named import Dropping
from goldfinch.text.documents import Document
from goldfinch.weights.directory import ModelCard

from .events import NOTE, WARNING, Remark, Report, Tell, tell_nobody


@dataclass(frozen=True)
class Wanted:
    """What a run would make.

    Attributes:
        identity: `gfcache.identity_key` of the model, in the dtype of the run.
        card: of the model.
        checkpoints: "none", "auto" or a number of tokens.
        base: the file that every cache continues, or None.
        layout: how documents are kept: "whole", "blocks", or "auto", for which either will do.
        coding: the codecs of a file; None where any will do.
        bounds: what they may cost by the file's receipt; None where none is needed.
        dropping: which rows are dropped; None where any may be.
    """

    identity: str
    card: ModelCard
    checkpoints: str = "auto"
    base: Path | None = None
    layout: str = "auto"
    coding: Coding | None = None
    bounds: Bounds | None = None
    dropping: Dropping | None = None


def fresh_report(path: Path, document: Document, wanted: Wanted, tell: Tell = tell_nobody) -> Report | None:
    """The report of a cache file that is what the run would make of a document, None when it is not."""
    try:
        with gfcache.read_cache(path) as file:
            header, size = file.header, file.file_bytes
            receipt = gfcache.receipt_in(file)
    except gfcache.CacheFormatError:
        return None
    parent = None
    if wanted.base is not None:
        with gfcache.read_cache(wanted.base) as base:
            parent = base.header.digest
    source = header.source or {}
    same = (
        source.get("sha256") == document.source["sha256"]
        and _is_the_same_file(document.source["path"], header, path)
        and gfcache.header_identity(header) == wanted.identity
        and (header.parent or {}).get("digest") == parent
    )
    if (
        not same
        or not _is_within(wanted.bounds, receipt, size)
        or not has_form(header, wanted)
        or not has_checkpoints(path, header, wanted)
    ):
        return None
    try:
        gfcache.verify_cache(path, complete=True)
    except gfcache.CacheFormatError as error:
        tell(Remark(WARNING, f"{error}; pre-filling the document again"))
        return None
    if not holds_text(path, header, document, wanted.card):
        tell(_why_again(path, header, document))
        return None
    checkpoint_bytes: int = gfcache.inspect_cache(path)["checkpoint_bytes"]
    return Report(path, header.tokens, header.tokens, size, checkpoint_bytes=checkpoint_bytes)


def _why_again(path: Path, header: gfcache.Header, document: Document) -> Remark:
    """Why a cache of the same bytes is none of this text.

    A cache that notes no encoding may be of a time when all that is not UTF-8 was read as cp1252: where its bytes are
    read as something else now, it is made anew.
    """
    if is_read_otherwise(header, document):
        noted = header.source or {}
        was, now = how_read(noted, document.source), how_read(document.source, noted)
        return Remark(NOTE, f"{path}: {document.label} was read {was} and is read {now} now; pre-filling it again")
    return Remark(WARNING, f"{path}: its token ids are not those of {document.label}; it is pre-filled again")


def how_read(source: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """How a document was read, in words, as far as it was read otherwise than another time."""
    words = []
    if source.get("encoding") != other.get("encoding"):
        words.append(f"as {source.get('encoding') or 'its bytes say'}")
    if source.get("prepared") != other.get("prepared"):
        words.append(str(source.get("prepared") or "unchanged"))
    return ", ".join(words)


def _is_the_same_file(place: str | None, header: gfcache.Header, cache: Path) -> bool:
    """Of two documents with the same bytes: the one that a cache notes, there or moved, or all that is left of it."""
    source = header.source or {}
    noted, seen = source.get("path"), place_seen_from(cache, source)
    if noted == place:
        return True
    is_moved = seen is not None and place is not None and os.path.realpath(seen) == os.path.realpath(place)
    return is_moved or (noted is not None and place is not None and not os.path.lexists(noted))


def _is_within(bounds: Bounds | None, receipt: gfcache.Receipt | None, size: int) -> bool:
    """Whether the codecs of a file cost no more than they may, by its receipt."""
    if bounds is None or receipt is None:
        return bounds is None
    small = bounds.max_bytes is None or size <= bounds.max_bytes
    return small and (bounds.max_kl is None or receipt.mean_kl <= bounds.max_kl)


def has_form(header: gfcache.Header, wanted: Wanted) -> bool:
    """Whether a cache keeps its document as the run would."""
    in_blocks = wanted.layout == "auto" or (wanted.layout == "blocks") == bool(header.model.get("blocks"))
    coded = wanted.coding is None or wanted.coding.is_met_by(Coding.of(header.numerics))
    return in_blocks and coded and _has_rows(header, wanted)


def _has_rows(header: gfcache.Header, wanted: Wanted) -> bool:
    """Whether a cache keeps the rows that the run would keep, as far as that is known before it."""
    noted = Dropping.of(header.numerics.get("dropping"))
    if wanted.bounds is not None and wanted.bounds.policy is not None:
        return noted is None or noted.policy == wanted.bounds.policy
    return wanted.dropping in (None, noted)


def has_checkpoints(path: Path, header: gfcache.Header, wanted: Wanted) -> bool:
    """Whether a cache has the positions that the run would give it."""
    if header.kept_rows is not None:
        return True  # such a cache has none
    planned = planned_by(header, wanted.card, wanted.checkpoints)
    found: list[int] = gfcache.inspect_cache(path)["checkpoints"]
    expected = [p for p in planned if p > header.first_token]
    if wanted.checkpoints == "auto":  # few are wanted; those of an earlier version may stand elsewhere
        return len(found) <= len(expected)
    return found == expected
