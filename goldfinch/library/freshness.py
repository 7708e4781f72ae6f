"""Whether a cache still belongs to its source file: the rules behind gf status, gf refresh and gf ask --explain."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gfcache
from gfcache import Header

if TYPE_CHECKING:
    from goldfinch.caching.document_cache import DocumentCache
    from goldfinch.models.language_model import LanguageModel
    from goldfinch.weights.directory import ModelCard


FRESH, STALE, ORPHANED, DETACHED, BROKEN, DAMAGED = "fresh", "stale", "orphaned", "detached", "broken", "damaged"
STATES = {
    FRESH: "the source is what was pre-filled",
    STALE: "the source has changed since",
    ORPHANED: "the source is gone, or is no file any more",
    DETACHED: "made from stdin, or changed by append or truncate: no source to compare with",
    BROKEN: "the base cache is gone, was replaced or is damaged",
    DAMAGED: "not a readable cache, or one whose checksums do not hold",
}


def source_state(header: Header, cache: Path) -> tuple[str, str | None]:
    """FRESH, STALE, ORPHANED or DETACHED, from the bytes of the source file, and where that is.

    Where the path noted is gone, a file of that name beside the cache is the source if it has the very bytes that were
    pre-filled: both were moved together. With other bytes it may be anybody's.

    Args:
        cache: the file that the header was read from.
    """
    source = header.source or {}
    path = source.get("path")
    if path is None or source.get("sha256") is None:
        return DETACHED, path
    if not os.path.lexists(path):
        beside = Path(os.path.abspath(cache)).parent / Path(path).name
        if _compare(beside, source) == FRESH:
            return FRESH, str(beside)
    return _compare(Path(path), source), path


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


def cache_state(path: Path) -> dict[str, Any]:
    """One row of gf status: path, state, source, tokens, bytes, model; no tokens when nothing can be read."""
    row: dict[str, Any] = {"path": str(path), "source": None, "tokens": None, "bytes": None, "model": None}
    try:
        with gfcache.read_cache(path) as file:
            header = file.header
        state, place = source_state(header, path)
        row |= {
            "source": place or (header.source or {}).get("name"),
            "tokens": header.tokens,
            "bytes": path.stat().st_size,
            "model": header.model.get("name"),
        }
        if not _verified(path) and state in (FRESH, DETACHED):
            state = BROKEN
    except (OSError, gfcache.CacheFormatError) as error:
        return {"state": DAMAGED, **row, "message": str(error)}
    return {"state": state, **row}


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


def first_divergent_token(model: LanguageModel, cache: DocumentCache, text: str) -> int | None:
    """Position of the first token at which a text, as a document, departs from a cached one; its end at the latest."""
    from goldfinch.engine.checkpoints import first_difference
    from goldfinch.text.prompt import document_token_ids

    ids, _ = document_token_ids(model, text)
    cached = cache.token_ids.cpu()
    differs = first_difference(cached, ids)
    return min(ids.shape[1], cached.shape[1]) if differs is None else differs
