"""A library of caches: a document goes in, its cache comes out, computed only when it has to be.

A cache is found by the place of its document and, failing that, by the text itself, so a document that was moved or
copied, or whose cache came from another machine, is not recomputed. It must agree with the model in everything
that `gfcache.identity_key` names.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gfcache
from gfcache import Coding, Removal, Store, layout

from goldfinch.text.documents import Document, read_document

if TYPE_CHECKING:
    import numpy as np

    from goldfinch.caching.journal import Journal
    from goldfinch.engine.base import Progress
    from goldfinch.weights.directory import ModelCard

from .known import MADE, holds_text, how_known, note
from .lending import lenders_for, still_there
from .opening import Model, engine_of

HIT, STALE, MISS = "hit", "stale", "miss"
# How often, and how long, to look whether another process has finished the same document.
WAIT_STEP_S = 0.1
WAIT_MOST_S = 3600.0


@dataclass(frozen=True)
class Found:
    """Where a document stands in the library.

    Attributes:
        state: HIT (nothing to compute), STALE (the source has changed: part of it may be) or MISS.
        path: the cache of a hit; else where it will be.
    """

    state: str
    path: Path


@dataclass
class Kept:
    """A cache from the library.

    Attributes:
        cache: ready for a `Session`.
        state: as it was found.
        tokens_computed: 0 on a hit.
        path: its file; None when it could not be kept.
        obstacle: why not.
        removals: what made room for it.
    """

    cache: Any
    state: str
    tokens_computed: int
    path: Path | None
    obstacle: gfcache.CacheFormatError | None = None
    removals: Sequence[Removal] = ()


@dataclass(frozen=True)
class Prepared:
    """What is known of a document before its cache is asked for.

    Attributes:
        token_ids: (T,) int64, as `document_token_ids` gives them.
        document_range: (start, end) of the document's own tokens.
        cache: of the document as it is now, computed with others, to store in place of computing it; else None.
    """

    token_ids: np.ndarray
    document_range: tuple[int, int]
    cache: Any | None = None


class Library:
    """Caches of documents, made on demand and kept in a store.

    Args:
        store: by default the user's own, without a cap.
        journal_s: least seconds between two notes of a run that may be interrupted; None as in `journal`.
        coding: the codecs of the caches that it makes; those that are there may have others.
    """

    def __init__(
        self, store: Store | None = None, *, journal_s: float | None = None, coding: Coding | None = None
    ) -> None:
        self.store, self._coding = Store() if store is None else store, coding or Coding()
        self._journal_s = journal_s

    def __repr__(self) -> str:
        return f"<Library in {str(self.store.folder)!r}>"

    def close(self) -> None:
        """Close the index of the store."""
        self.store.close()

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def find(self, document: Document, card: ModelCard, dtype: str, *, verified: bool = False) -> Found:
        """Where a document stands, without loading a model.

        Args:
            document: as read now.
            card: of the model that is to answer.
            dtype: compute dtype as files name it ("f32", "bf16", "f64").
            verified: read all of a hit; a damaged one is a MISS. Without it, `get` finds that out.
        """
        identity = card_identity(card, dtype)
        sha256 = document.source["sha256"]
        place = document.source["path"] or f"sha256:{sha256}"
        path = self.store.path_of(identity, place)
        state = self._state(path, identity, document, card, verified)
        if state != HIT:
            for other in self.store.of_content(sha256, identity):
                if self._state(other, identity, document, card, verified) == HIT:
                    return Found(HIT, other)
        return Found(state, path)

    def _state(self, path: Path, identity: str, document: Document, card: ModelCard, verified: bool) -> str:
        """HIT, STALE or MISS from the file itself: the index may lag behind, and the file may be anybody's."""
        try:
            with gfcache.read_cache(path) as file:
                header = file.header
        except (OSError, gfcache.CacheFormatError):
            return MISS
        if gfcache.header_identity(header) != identity:
            return MISS
        if (header.source or {}).get("sha256") != document.source["sha256"]:
            return STALE
        try:
            if verified or how_known(header.digest) is None:
                gfcache.verify_cache(path, complete=True)
        except (OSError, gfcache.CacheFormatError):
            return MISS
        return HIT if holds_text(path, header, document, card) else MISS

    def get(
        self,
        model: Model,
        document: Document | str | os.PathLike[str],
        *,
        checkpoints: str | None = None,
        progress: Progress | None = None,
        waiting: Callable[[], None] | None = None,
        fresh: bool = False,
        unsuited: bool = False,
        prepared: Prepared | None = None,
    ) -> Kept:
        """The cache of a document: from the store, brought up to date, or computed and stored.

        Args:
            model: from a model directory.
            document: a file, or a document as read.
            checkpoints: as in `plan_checkpoints`; None as in `library_checkpoints`.
            progress: called with (tokens done, T).
            waiting: called once when another process is computing the same document.
            fresh: compute it whatever is there.
            unsuited: a hit is none: it lacks the checkpoints asked for.
            prepared: what is known of it.

        Raises:
            the errors of `read_document`, `document_token_ids`, `prefill` and `open_cache`.
        """
        if not isinstance(document, Document):
            document = read_document(document)
        dtype = engine_of(model).dtype
        found, kept = self._hit(document, model, dtype, fresh or unsuited)
        if kept is not None:
            return kept
        with contextlib.ExitStack() as stack:
            obstacle = None
            try:
                self.store.make_folders(found.path)
                stack.enter_context(self._only_writer(found.path, waiting))
            except gfcache.CacheWriteError as error:
                obstacle = error
            # Another process may have made it meanwhile.
            found, kept = self._hit(document, model, dtype, fresh or unsuited)
            if kept is not None:
                return kept
            return self._make(model, document, found, checkpoints, progress, obstacle, fresh, prepared)

    def _hit(self, document: Document, model: Model, dtype: str, fresh: bool) -> tuple[Found, Kept | None]:
        """Where a document stands, and its cache on a hit, unless all is to be computed `fresh`."""
        from goldfinch.caching.journal import tidy

        for verified in (False, True):  # one that turns out to be damaged is no hit, and there may be another
            found = self.find(document, engine_of(model).card, dtype, verified=verified)
            if found.state != HIT or fresh:
                return found, None
            kept = self._open(found.path, model)
            if kept is not None:
                tidy(found.path)
                return found, kept
        return Found(MISS, found.path), None

    def _open(self, path: Path, model: Model) -> Kept | None:
        """The cache in a file; None when it has gone or is damaged."""
        try:
            cache = engine_of(model).open(path, asking=True)
        except (FileNotFoundError, gfcache.DamagedCache, gfcache.NotACacheFile, gfcache.LenderMissing):
            return None
        self.store.used(path, hit=True)
        return Kept(cache, HIT, 0, path)

    @contextlib.contextmanager
    def _only_writer(self, path: Path, waiting: Callable[[], None] | None) -> Iterator[None]:
        """Hold the lock of a cache, waiting for whoever has it."""
        deadline = time.monotonic() + WAIT_MOST_S
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(gfcache.output_lock(path))
                    break
                except gfcache.CacheLocked:
                    if time.monotonic() > deadline:
                        raise
                    if waiting is not None:
                        waiting()
                        waiting = None
                    time.sleep(WAIT_STEP_S)
            yield

    def _make(
        self,
        model: Model,
        document: Document,
        found: Found,
        checkpoints: str | None,
        progress: Progress | None,
        obstacle: gfcache.CacheFormatError | None,
        fresh: bool,
        prepared: Prepared | None,
    ) -> Kept:
        """Compute the cache and store it, unless there is an obstacle: an answer is possible all the same."""
        from goldfinch.caching.document_cache import source_seen_from
        from goldfinch.caching.row_parts import Form

        from .changes import document_token_ids
        from .making import Made, make_cache, where_to_start

        prepared = prepared or Prepared(*document_token_ids(model, document.text))
        token_ids = prepared.token_ids
        tokens = len(token_ids)
        positions = engine_of(model).plan_checkpoints(tokens, checkpoints)
        at_most = _at_most_bytes(model, source_seen_from(found.path, document.source), token_ids, positions)
        removals: list[Removal] = []
        journal = None if obstacle is not None else _journal(self.store, found.path, self._journal_s, at_most, removals)
        form = Form(self._coding)
        if prepared.cache is not None:
            made = Made(engine_of(model).coded(prepared.cache, form), 0, None)
        else:
            exact = checkpoints not in (None, "auto")
            lenders = [] if fresh or obstacle is not None else self._lenders(model, token_ids, found.path)
            start = where_to_start(
                model, token_ids, found.path, checkpoints=positions, exact=exact, form=form, journal=journal,
                fresh=fresh, lenders=lenders,
            )  # fmt: skip
            span, source = prepared.document_range, document.source
            made = make_cache(start, model, token_ids, document_range=span, source=source, progress=progress)
        computed = tokens - made.tokens_reused
        if journal is not None:
            try:
                with self.store.writing(found.path, at_most) as room:
                    removals.append(room)
                    how: dict[str, Any] = {"noted": partial(note, how=MADE) if made.is_own else None}
                    if made.lenders:  # what made room may have been one of them
                        how["lenders"] = still_there(self.store, made.lenders, found.path)
                    journal.finish(lambda: made.cache.save(found.path, **how))
                self._keep_words(model, made.cache, self.store.added(found.path).digest)
            except (gfcache.NoRoom, gfcache.CacheWriteError, gfcache.CacheLocked) as error:
                obstacle = error
            with contextlib.suppress(gfcache.CacheWriteError):
                journal.remove()
        return Kept(made.cache, found.state, computed, None if obstacle else found.path, obstacle, removals)

    def _lenders(self, model: Model, token_ids: np.ndarray, path: Path) -> list[Any]:
        engine = engine_of(model)
        keys = engine.block_keys(token_ids)
        return lenders_for(self.store, model, card_identity(engine.card, engine.dtype), keys, path) if keys else []

    def _keep_words(self, model: Model, cache: Any, digest: str) -> None:
        """Note the words of a cache that was stored, for searches; they can be found later as well."""
        from goldfinch.policies.index import DocumentIndex

        from .find import keep_words, open_words

        with contextlib.suppress(Exception), open_words(self.store) as words:
            tokenizer, own = engine_of(model).tokenizer, slice(*cache.document_range)
            if tokenizer is not None:
                packed = getattr(cache, "index", None)  # what an engine keeps of a document is its own
                keep_words(words, DocumentIndex(tokenizer, cache.token_ids[own].tolist(), packed), digest)


def _at_most_bytes(model: Model, source: dict[str, Any] | None, token_ids: np.ndarray, positions: list[int]) -> int:
    from goldfinch.caching.sizes import planned_bytes

    engine = engine_of(model)
    planned = planned_bytes(engine.identity_of(token_ids), engine.numerics, source, token_ids, positions, exactly=False)
    return planned + layout.ALIGNMENT * 64  # rows of the header may be some bytes longer than planned


def _journal(store: Store, path: Path, every_s: float | None, at_most_bytes: int, removals: list[Removal]) -> Journal:
    """A journal that stays under the cap, or is not written; what made room for it is added to `removals`."""
    from goldfinch.caching.journal import EVERY_S, Journal, save_journal

    def save(cache: Any, place: Path) -> None:
        with (
            contextlib.suppress(gfcache.NoRoom, gfcache.CacheWriteError, gfcache.CacheLocked),
            store.writing(path, at_most_bytes) as room,
        ):
            removals.append(room)
            save_journal(cache, place)

    return Journal(path, EVERY_S if every_s is None else every_s, save=save)


def card_identity(card: ModelCard, dtype: str) -> str:
    """The `gfcache.identity_key` of the caches that a model makes.

    Args:
        card: of the model directory.
        dtype: compute dtype as files name it.
    """
    return gfcache.identity_key(
        card.prefill_fingerprint,
        card.model_fingerprint,
        card.tokenizer_fingerprint,
        card.template.prefix_fingerprint(),
        dtype,
    )
