"""gf ask --explain and --require-cached: what an answer rests on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gfcache
from gfcache import Header

from goldfinch.errors import NotVerified
from goldfinch.library.freshness import (
    STALE,
    STATES,
    UNREAD,
    compare_identity,
    first_divergent_token,
    source_state,
    unread_words,
)
from goldfinch.library.known import is_verified

from .console import console
from .documents import read_document
from .exits import CONDITION_NOT_MET, CommandError

if TYPE_CHECKING:
    from goldfinch.engine.session import Session
    from goldfinch.weights.directory import ModelCard


def show_identity(header: Header, card: ModelCard) -> None:
    """The comparison, on stderr: also for a cache that is about to be refused."""
    for row in compare_identity(header, card):
        same = "same" if row["same"] else f"differs: cache {_short(row['cache'])}, model {_short(row['model'])}"
        console.words(f"{row['name']:<28} {same}")


def explain(session: Session, header: Header, state: str, source: str | None) -> dict[str, Any]:
    """Where the tokens of the answer come from (the object `explain` of docs/schemas/ask.json).

    Args:
        header: of the cache file.
        state, source: as `freshness.source_state` tells them.
    """
    from goldfinch.library.opening import engine_of

    cache, engine = session.cache, engine_of(session.model)
    card, difference = engine.card, engine.difference(cache.numerics)
    assert card is not None
    return {
        "tokens_from_cache": cache.length,
        "tokens_from_parent": header.first_token,
        "tokens_computed": 0,
        "source_state": state,
        "first_divergent_token": _first_divergent_token(session, header, source) if state == STALE else None,
        "numerics_difference": None if difference is None else "{}: cache {}, here {}".format(*difference),
        "fingerprints": compare_identity(header, card),
    }


def counted(found: dict[str, Any], computed: int) -> dict[str, Any]:
    """An explanation, for an answer that some tokens of the document were computed for."""
    return found | {"tokens_from_cache": found["tokens_from_cache"] - computed, "tokens_computed": computed}


def _first_divergent_token(session: Session, header: Header, source: str | None) -> int | None:
    if source is None or header.parent is not None:  # the source is only the last part of the document
        return None
    return first_divergent_token(session.model, session.cache, read_document(source).text)


def show(found: dict[str, Any]) -> None:
    """The explanation in words, on stderr."""
    lines = [
        f"{found['tokens_from_cache']:,} document tokens from the cache, {found['tokens_computed']} computed",
        f"source {found['source_state']}: {STATES[found['source_state']]}",
    ]
    if found["tokens_from_parent"]:
        lines.append(f"{found['tokens_from_parent']:,} of the tokens from the base cache")
    if found["first_divergent_token"] is not None:
        lines.append(f"the source differs from token {found['first_divergent_token']:,} on")
    if found["numerics_difference"]:
        lines.append(f"numerics: {found['numerics_difference']}")
    for line in lines:
        console.words(line)


def warn_if_stale(cache: str, header: Header) -> None:
    """Say that a cache file holds another text than its source does by now."""
    state, source = source_state(header, Path(cache))
    if state == STALE:
        changed = f"{source} has changed since it was cached"
        console.warn(f"{changed}: answers are about the text as it was; gf refresh {cache} renews it")


def require_cached(path: str, header: Header) -> None:
    """Refuse when an answer about the document as it is now would need computing.

    Raises:
        CommandError: exit 10.
    """
    state, source = source_state(header, Path(path))
    if state == UNREAD:
        raise CommandError(f"{path}: {unread_words(source)}", code=CONDITION_NOT_MET)
    if state == STALE:
        raise CommandError(
            f"{path} does not cover {source} as it is now: the file has changed since",
            code=CONDITION_NOT_MET,
            hint=f"gf refresh {path}",
        )


def require_verified(path: str, digest: str | None) -> None:
    """Refuse a cache that may be anybody's.

    Raises:
        NotVerified.
    """
    if not is_verified(digest):
        raise NotVerified(Path(path))


def read_header(path: str) -> Header:
    """The header of a cache file."""
    with gfcache.read_cache(path) as file:
        return file.header


def _short(fingerprint: str | None) -> str:
    return fingerprint[:16] if fingerprint else "none"
