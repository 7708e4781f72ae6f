"""Sessions as the options of gf ask say: on a cache file, or on a document through the library."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gfcache

from goldfinch.errors import NotVerified
from goldfinch.library.freshness import FRESH, check_unknown, source_state
from goldfinch.library.known import is_verified
from goldfinch.library.library import HIT, STALE, Library, Prepared
from goldfinch.library.light import Wanted, reason_for_torch
from goldfinch.library.opening import check_numerics, model_asked, open_session, open_with_model, session_on
from goldfinch.policies.named import INSTALL_VECTORS
from goldfinch.text.documents import USUAL, Document, Reading

from . import explain as explaining
from . import settings
from .console import console
from .exits import CONDITION_NOT_MET, CommandError
from .options import coding_of, journal_seconds, load, model_card, numerics, numerics_allowed
from .store import open_store, say_index, say_removed
from .values import FILE_DTYPES, counted

if TYPE_CHECKING:
    from goldfinch.library.opening import Model

    from .answers import How


@dataclass(frozen=True)
class Models:
    """Models as the options say, each loaded once."""

    device: str = "auto"
    dtype: str | None = None
    loaded: dict[tuple[str, str, bool], Model] = field(default_factory=dict)
    light: bool = False

    def __call__(self, place: str, cache_dtype: str | None) -> Model:
        key = (place, self.dtype or str(cache_dtype), self.light)
        if key not in self.loaded:
            self.loaded[key] = load(place, self.device, self.dtype, cache_dtype, light=self.light)
        return self.loaded[key]


@dataclass(frozen=True)
class Options:
    """What the options say of model, memory and conditions.

    Attributes:
        torch_for: what of them torch alone does; None where it may do without.
    """

    model: str | None
    models: Models
    memory_bytes: int
    strict: bool
    explain: bool
    require_cached: bool
    require_verified: bool = False
    reading: Reading = USUAL
    torch_for: str | None = "several answers are computed together"


def open_cache_file(cache: str, model: str | None, models: Models) -> tuple[Model, Any]:
    """A cache and its model; what is odd about them goes to stderr.

    Raises:
        FileNotFoundError, and the errors of `open_with_model`.
    """
    with gfcache.read_cache(cache) as file:
        return open_with_model(file, models, model=model, remark=console.warn_once, detail=console.detail)


def open_to_continue(cache: str, model: str | None, models: Models, verified: bool) -> tuple[Any, Any]:
    """A cache that another one is to be made from, and its model.

    Args:
        verified: refuse one that no run of this user made or replayed; else that is said.

    Raises:
        NotVerified, and the errors of `open_cache_file`.
    """
    if verified:
        explaining.require_verified(cache, explaining.read_header(cache).digest)
    loaded, opened = open_cache_file(cache, model, models)
    if not is_verified(opened.digest):
        if verified:  # it was replaced meanwhile
            raise NotVerified(Path(cache))
        console.warn(f"no run of yours made {cache}: nor will what is made from it count as yours")
    return loaded, opened


def cache_session(cache: str, how: How, options: Options) -> Any:
    """A session on a cache file, with what --explain and --require-cached say before anything is loaded."""
    with gfcache.read_cache(cache) as file:
        header = file.header
        if options.explain and not how.as_json:
            card = model_asked(header, options.model, remark=console.warn_once)
            explaining.show_identity(header, card)
        if options.require_verified:
            explaining.require_verified(cache, header.digest)
        check_unknown(Path(cache), header)
        if options.require_cached:
            explaining.require_cached(cache, header)
        elif not options.explain:
            explaining.warn_if_stale(cache, header)
        session = open_session(
            file, _models_for(header, how, options), model=options.model,
            strict=options.strict, memory_bytes=options.memory_bytes,
            read=how.read, read_blocks=how.read_blocks, templated=not how.raw, remark=console.warn_once,
            detail=console.detail,
        )  # fmt: skip
    say_path(session)
    if options.explain:
        _explain(session, header, how, *source_state(header, Path(cache)))
    return session


def _models_for(header: gfcache.Header, how: How, options: Options) -> Models:
    """Who loads the model for questions to a cache: without torch where that can be."""
    card = model_asked(header, options.model, remark=console.warn_once)
    device, dtype = numerics(options.models.device, options.models.dtype, header.compute_dtype, card=card)
    exact = options.strict or options.explain
    wanted = Wanted(device, FILE_DTYPES[dtype], how.read, options.memory_bytes, exact, options.torch_for)
    reason = reason_for_torch(card, header, wanted)
    console.detail("without torch" if reason is None else f"with torch: {reason}")
    return replace(options.models, light=reason is None)


def library_session(document: Document, how: How, options: Options) -> Any:
    """A session on a document of the library.

    Raises:
        CommandError: exit 10 when --require-cached or --require-verified is not met; the errors of computing.
        CacheMismatch: --strict, and a cache of other numerics.
    """
    from goldfinch.library.changes import document_token_ids
    from goldfinch.library.making import length_remark

    card = model_card(options.model)
    device, dtypes = numerics_allowed(options.models.device, options.models.dtype, card)
    store = open_store(keep_cap=not options.require_cached)
    coding = coding_of(settings.value("codec"), settings.value("state_codec"), card)
    with Library(store, journal_s=journal_seconds(), coding=coding) as library:
        dtype, found = dtypes[0], library.find(document, card, FILE_DTYPES[dtypes[0]], verified=options.require_cached)
        for other in dtypes[1:] if found.state != HIT else ():
            again = library.find(document, card, FILE_DTYPES[other], verified=options.require_cached)
            if again.state == HIT:
                dtype, found = other, again
        console.detail(f"library: {found.state}, {found.path}")
        if options.require_cached and found.state != HIT:
            why = "has changed since it was cached" if found.state == STALE else "is not cached"
            raise CommandError(
                f"{document.label} {why}",
                code=CONDITION_NOT_MET,
                hint=f'gf ask {document.path or "-"} "QUESTION" computes it',
            )
        if options.require_verified and found.state == HIT:
            explaining.require_verified(str(found.path), explaining.read_header(str(found.path)).digest)
        model = load(str(card.path), device, dtype, layout=settings.value("layout"))
        prepared = None
        if found.state != HIT:
            prepared = Prepared(*document_token_ids(model, document.text))
            long = length_remark(document.label, len(prepared.token_ids), model)
            if long is not None:
                console.warn(long)
        with console.progress(document.label) as progress:
            kept = library.get(
                model, document, progress=progress, prepared=prepared,
                waiting=lambda: console.say(f"{document.label}: waiting for another process that pre-fills it"),
            )  # fmt: skip
        say_index(library.store)
        for removal in kept.removals:
            say_removed(library.store, removal)
        if found.state == HIT and kept.state != HIT:
            console.warn(f"the cache of {document.label} is damaged or missing: pre-filling the document again")
        if kept.path is None:
            console.warn(f"{document.label} is answered but not kept: {kept.obstacle}")
        elif kept.state != HIT:
            verb = "brought up to date" if kept.state == STALE else "pre-filled"
            console.detail(f"library: {verb}, {kept.tokens_computed:,} of {kept.cache.length:,} tokens computed")
    check_numerics(kept.cache, model, strict=options.strict, remark=console.detail)
    how.computed = kept.tokens_computed
    how.library = {"state": kept.state, "path": None if kept.path is None else str(kept.path)}
    session = session_on(
        model, kept.cache, memory_bytes=options.memory_bytes, read=how.read, read_blocks=how.read_blocks
    )
    say_path(session)
    if options.explain and kept.path is not None:
        header = explaining.read_header(str(kept.path))
        if not how.as_json:
            explaining.show_identity(header, card)
        # The library keeps the text that was just read, whatever has become of the file that the cache was made from.
        _explain(session, header, how, FRESH, None)
    return session


def _explain(session: Any, header: gfcache.Header, how: How, state: str, source: str | None) -> None:
    how.explanation = explaining.explain(session, header, state, source)
    if not how.as_json:
        explaining.show(explaining.counted(how.explanation, how.computed))


def say_path(session: Any) -> None:
    """What a user should know of the reading; with -v, how the document is attended to, and what runs the layers."""
    reader = session.reader
    if reader.remark is not None and reader.remark not in _REMARKED:
        _REMARKED.add(reader.remark)
        console.say(f"{reader.remark}; {INSTALL_VECTORS} adds them")
    policy = (
        "all of it" if reader.policy == "all" else f"{counted(reader.blocks, 'block')} per question, {reader.policy}"
    )
    console.detail(f"{session.chosen_path}; layers run on {session.runs_on}; read: {policy}")


# Said once, however many documents are asked.
_REMARKED: set[str] = set()
