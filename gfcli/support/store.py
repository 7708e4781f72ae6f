"""Documents through the library: found, brought up to date or pre-filled, and what is said of that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gfcache import CacheLocked, CacheWriteError, Removal, Store

from . import settings
from .answers import check_numerics, say_path
from .console import console
from .exits import CONDITION_NOT_MET, CommandError
from .freshness import FRESH
from .options import load, numerics
from .values import FILE_DTYPES, parse_bytes, show_bytes
from .writing import journal_seconds, warn_of_length

if TYPE_CHECKING:
    from gfcli.commands.ask import Options
    from goldfinch.engine.session import Session
    from goldfinch.text.documents import Document

    from .answers import How


def open_store(*, keep_cap: bool = False) -> Store:
    """The store of the settings.

    Args:
        keep_cap: remove what is over the cap at once; for commands that add caches, those that look remove nothing.
    """
    cap = settings.value("cache.max_size")
    store = Store(max_bytes=None if cap is None else parse_bytes(cap))
    if keep_cap:
        try:
            say_removed(store, store.keep_cap())
        except (CacheLocked, CacheWriteError) as error:
            console.warn(f"the library is not brought below its cap: {error}")
    return store


def say_removed(store: Store, removal: Removal) -> None:
    """What made room, and what could not, on stderr."""
    if removal.removed or removal.remnants:
        count = len(removal.removed) + len(removal.remnants)
        console.say(f"library: {count} removed to keep the cap, {show_bytes(removal.freed_bytes)}")
    if store.max_bytes is not None and removal.skipped and store.used_bytes() > store.max_bytes:
        console.warn(
            f"the library takes {show_bytes(store.used_bytes())}, more than its cap of {show_bytes(store.max_bytes)}: "
            f"{len(removal.skipped)} entries stay ({', '.join(sorted({why for _, why in removal.skipped}))})"
        )


def say_index(store: Store) -> None:
    """What became of the index, on stderr."""
    if store.rebuilt:
        console.warn("the index of the library was lost or damaged and is rebuilt: pins, tags and uses are gone")
    if store.obstacle is not None:
        index = store.folder / "index.sqlite3"
        console.warn(f"{index} cannot be used ({store.obstacle}): pins and tags are not seen, nothing is removed")


def library_session(document: Document, how: How, options: Options) -> Session:
    """A session on a document of the library.

    Raises:
        CommandError: exit 10 when --require-cached is not met; the errors of computing.
        CacheMismatch: --strict, and a cache of other numerics.
    """
    from goldfinch import document_token_ids
    from goldfinch.library.library import HIT, STALE, Library
    from goldfinch.weights.directory import find_model

    device, dtype = numerics(options.device, options.dtype)
    card = find_model(options.model or settings.value("model"))
    store = open_store(keep_cap=not options.require_cached)
    with Library(store, journal_s=journal_seconds()) as library:
        found = library.find(document, card, FILE_DTYPES[dtype], verified=options.require_cached)
        console.detail(f"library: {found.state}, {found.path}")
        if options.require_cached and found.state != HIT:
            why = "has changed since it was cached" if found.state == STALE else "is not cached"
            raise CommandError(
                f"{document.label} {why}",
                code=CONDITION_NOT_MET,
                hint=f'gf ask {document.path or "-"} "QUESTION" computes it',
            )
        model = load(str(card.path), device, dtype)
        tokens = None
        if found.state != HIT:
            tokens = document_token_ids(model, document.text)
            warn_of_length(document.label, tokens[0].shape[1], model)
        with console.progress(document.label) as progress:
            kept = library.get(
                model, document, progress=progress, tokens=tokens,
                waiting=lambda: console.say(f"{document.label}: waiting for another process that pre-fills it"),
            )  # fmt: skip
        say_index(library.store)
        for removal in kept.removals:
            say_removed(library.store, removal)
        if found.state == HIT and kept.state != HIT:
            console.warn(f"the cache of {document.label} is damaged or has gone: it is pre-filled again")
        if kept.path is None:
            console.warn(f"{document.label} is answered but not kept: {kept.obstacle}")
        elif kept.state != HIT:
            verb = "brought up to date" if kept.state == STALE else "pre-filled"
            console.detail(f"library: {verb}, {kept.tokens_computed:,} of {kept.cache.length:,} tokens computed")
    check_numerics(kept.cache, model, options.strict)
    how.computed = kept.tokens_computed
    how.library = {"state": kept.state, "path": None if kept.path is None else str(kept.path)}
    from goldfinch import Session

    session = Session(model, kept.cache, memory_bytes=options.memory_bytes)
    say_path(session)
    if options.explain and kept.path is not None:
        _explain(session, kept.path, how)
    return session


def _explain(session: Session, path: Path, how: How) -> None:
    from . import explain as explaining

    header = explaining.read_header(str(path))
    # The library keeps the text that was just read, whatever has become of the file that the cache was made from.
    how.explanation = explaining.explain(session, header, FRESH, None)
    if not how.as_json:
        explaining.show_identity(header, session.model.card)
        explaining.show(explaining.counted(how.explanation, how.computed))
