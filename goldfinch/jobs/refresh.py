"""Stale caches made anew, each by the model that made it, bases before the caches that continue them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import gfcache
from gfcache import Coding

from goldfinch.caching.journal import EVERY_S, tidy
from goldfinch.errors import BaseUnverified, SourceGone, SourceLost, SourceUnknown
from goldfinch.library.freshness import (
    BROKEN,
    DAMAGED,
    DETACHED,
    FRESH,
    ORPHANED,
    STALE,
    UNREAD,
    cache_state,
    reading_of,
    source_state,
    unread_words,
)
from goldfinch.library.known import is_verified
from goldfinch.library.opening import Load, Model, engine_of, find_model_of, load_as_computed, planned_by
from goldfinch.library.reach import Reach, base_place
from goldfinch.policies.dropping.named import Dropping
from goldfinch.text.documents import Document, read_document
from goldfinch.weights.directory import ModelCard

from .events import WARNING, Failed, Planned, Remark, Tell, Written, tell_nobody
from .job import Job, compute, save
from .outputs import real
from .sources import Source, with_text


@dataclass
class Refresh:
    """A run over caches.

    Args:
        load: gives the model that made a cache.
        checkpoints: "none", "auto" or a number of tokens; by default as they are in each cache.
        dry_run: only say what would be done.
        journal_s: least seconds between two notes for a run that may be interrupted.
        tell: takes what there is to say while a document is computed.
        reach: where sources and bases may be read; by default in the current folder and beside each cache.
    """

    load: Load = load_as_computed
    checkpoints: str | None = None
    dry_run: bool = False
    journal_s: float = EVERY_S
    tell: Tell = tell_nobody
    reach: Reach = field(default_factory=Reach)
    _models: dict[tuple[str, str | None], Model] = field(default_factory=dict, init=False)

    def events(self, caches: Sequence[Path]) -> Iterator[Written | Planned | Failed]:
        """What becomes of each cache that is not as it should be; the others, and those without a source, stay.

        A cache whose source is gone, or that does not even tell it, fails: SourceGone, SourceLost, SourceUnknown.
        """
        planned: set[Path] = set()
        for path, *bases in sorted((self.reach.chain(path)[0] for path in caches), key=len):
            row = cache_state(path, self.reach)  # in its turn: a base that was refreshed leaves its children broken
            if row["state"] in (FRESH, DETACHED):
                if planned.isdisjoint(map(real, bases)):
                    if not self.dry_run:
                        tidy(path)
                    continue
                row["state"] = BROKEN
            outcome = self._outcome(path, row)
            if isinstance(outcome, Planned):
                planned.add(real(path))
            yield outcome

    def _outcome(self, path: Path, row: dict[str, Any]) -> Written | Planned | Failed:
        """What becomes of one cache. Not in `events`: clearing the frames of a failure would end that generator."""
        source = Source(row["source"] or row["path"])
        try:
            if row["state"] not in (STALE, BROKEN) and (row["state"] != DAMAGED or row["tokens"] is None):
                raise _stays(path, row)
            return Planned(source, path) if self.dry_run else self._one(path)
        except Exception as error:
            return Failed(source, error, path)

    def _one(self, path: Path) -> Written:
        started = time.perf_counter()
        with gfcache.output_lock(path):
            with gfcache.read_cache(path) as file:
                header = file.header
            state, place = source_state(header, path, self.reach)
            if place is None or state not in (FRESH, STALE):
                lost = f"its source is gone or unknown: {place or 'none is noted'}"
                raise SourceLost(path, place, unread_words(place) if state == UNREAD else lost)
            job = Job(Source(place), path=path)
            job.document = _read(place, state, header)
            if job.document.remark:
                self.tell(Remark(WARNING, job.document.remark))
            model = self._model_of(header)
            if header.parent is not None:
                job.parent = _base_of(path, header, model, self.reach)
                job.bases = (job.parent,)
            job.coding = Coding.of(header.numerics)
            job.dropping = Dropping.of(header.numerics.get("dropping"))
            job.checkpoints = self.checkpoints or _spacing(path, header, engine_of(model).card)
            compute(job, model, journal_s=self.journal_s, tell=self.tell)
            report = save(job)
        return Written(job.source, replace(report, seconds=time.perf_counter() - started))

    def _model_of(self, header: gfcache.Header) -> Model:
        """The model that wrote a cache, loaded once."""
        key = (header.model["model_fingerprint"], header.compute_dtype)
        if key not in self._models:
            self._models[key] = self.load(str(find_model_of(header, exact=True).path), key[1])
        return self._models[key]


def _read(place: str, state: str, header: gfcache.Header) -> Document:
    """The source as it is now, in the encoding that it was read in before, if it may be in that still.

    Raises:
        EmptyInput, and the errors of `read_document`.
    """
    reading = reading_of(header, as_it_was=state == FRESH and is_verified(header.digest))
    # What is verbatim by chance, for there was nothing to normalise, may hold something now.
    return with_text(read_document(place, replace(reading, verbatim=False) if state == STALE else reading))


def _stays(path: Path, row: dict[str, Any]) -> SourceGone | SourceLost | SourceUnknown:
    """Why a cache cannot be refreshed."""
    kinds: dict[str, type[SourceGone] | type[SourceLost]] = {ORPHANED: SourceGone, UNREAD: SourceLost}
    kind = kinds.get(row["state"], SourceUnknown)
    reason = row.get("message") or row["source"]
    return kind(path, row["source"], f"{path} is {row['state']} and was skipped: {reason}")


def _spacing(path: Path, header: gfcache.Header, card: ModelCard) -> str:
    """What the checkpoints have to be for a cache to be as it is; "auto" when nothing gives its positions."""
    found: list[int] = gfcache.inspect_cache(path)["checkpoints"]
    gaps = [b - a for a, b in pairwise(found)] or found
    for wanted in ("auto", "none", *map(str, gaps[:1])):
        planned = planned_by(header, card, wanted)
        if [p for p in planned if p > header.first_token] == found:
            return wanted
    return "auto"


def _base_of(path: Path, header: gfcache.Header, model: Model, reach: Reach) -> Any:
    """The base cache as it is now, whatever its digest.

    Raises:
        SourceLost: it may not be read.
        BaseUnverified: anybody may have put it there.
        gfcache.ParentMissing: it is gone.
    """
    assert header.parent is not None
    place = base_place(path, header)
    if place is None:
        raise gfcache.ParentMissing(path, header.parent["path"], header.parent["digest"])
    _, closed = reach.chain(path)
    if closed is not None:
        raise SourceLost(path, str(closed), unread_words(str(closed)))
    base = engine_of(model).open(place)
    if not is_verified(base.digest):
        raise BaseUnverified(place, f"{path} is not made anew: no run of yours made its base {place}")
    return base
