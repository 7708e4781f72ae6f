"""Where the caches of a run go: into files beside their documents or in a folder, or into a library."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gfcache
from gfcache import Coding

from goldfinch.caching.journal import EVERY_S, Journal, tidy
from goldfinch.errors import MadeRoom
from goldfinch.library.changes import document_token_ids
from goldfinch.library.library import HIT, Found, Library, Prepared, card_identity
from goldfinch.library.making import length_remark
from goldfinch.library.opening import LazyModel
from goldfinch.measure.choosing import Bounds
from goldfinch.policies.dropping.named import Dropping

from .events import DETAIL, NOTE, WARNING, Failed, PassedOver, Progress, Remark, Removed, Report, Tell, Written
from .fresh import Wanted, fresh_report, has_checkpoints, has_form
from .job import Job, compute, save, tokenise
from .outputs import OutputNames, check_not_base, check_place, check_replaceable, real
from .sources import Source

Result = Written | PassedOver


@dataclass(frozen=True)
class Plan:
    """What is wanted of every document.

    Attributes:
        output: a file, or a folder (ending in a slash, or there); beside each document by default. Not in a library.
        checkpoints: "none", "auto" or a number of tokens (`plan_checkpoints`).
        force: compute what is fresh, too, from nothing, and replace a cache made from something else.
        batch_tokens: on a GPU, compute short documents together, so many tokens at a time; None for one by one.
        journal_s: least seconds between two notes for a run that may be interrupted.
        lock_wait_s: how long to wait, after all others, for documents whose files other runs are writing.
        layout: how documents are kept: "whole", "blocks", or "auto", for which either will do.
        coding: the codecs of a file; None where any will do. A library has its own.
        bounds: what they may cost, which is measured; None where it is not, as in a library.
        dropping: which rows are dropped; None where any may be. A library keeps all.
    """

    output: str | None = None
    checkpoints: str = "auto"
    force: bool = False
    batch_tokens: int | None = None
    journal_s: float = EVERY_S
    lock_wait_s: float = 0.0
    layout: str = "auto"
    coding: Coding | None = None
    bounds: Bounds | None = None
    dropping: Dropping | None = None


class Destination(Protocol):
    """Where caches go."""

    def expect(self, sources: Sequence[Source]) -> None:
        """Take note of all documents of the run, before the first."""

    def is_wanted(self, job: Job) -> bool:
        """Decide on the place of a document that was read, and whether there is anything to compute."""

    def tokenise(self, job: Job) -> None:
        """Fill in the tokens of a document; called in any thread."""

    def make(self, job: Job, writer: Executor) -> Result | Future[Result]:
        """Compute a document that was read, or find that there is nothing to do; the file may be on its way."""

    def undone(self) -> list[Failed]:
        """Documents whose caches had to make room since the last call."""


class IntoFiles:
    """A cache file for each document, perhaps continuing a base."""

    def __init__(self, model: LazyModel, plan: Plan, base: Any, tell: Tell) -> None:
        self._model, self._plan, self._base, self._tell = model, plan, base, tell
        dtype = model.dtype if base is None else str(base.numerics.compute_dtype)
        identity = card_identity(model.card, dtype)
        at = None if base is None else base.path
        form = plan.layout, plan.coding, plan.bounds, plan.dropping
        self._wanted = Wanted(identity, model.card, plan.checkpoints, at, *form)
        self._names = OutputNames(plan.output, ())
        # By real path, for a call may name one output twice, through a link: whose it is, and its file on its way.
        self._names_of: dict[Path, str] = {}
        self._writes: dict[Path, Future[Result]] = {}

    def expect(self, sources: Sequence[Source]) -> None:
        self._names = OutputNames(self._plan.output, sources)

    def is_wanted(self, job: Job) -> bool:
        path = self._placed(job)
        if self._names_of.setdefault(real(path), job.source.name) != job.source.name:
            return False
        return self._plan.force or not path.exists() or fresh_report(path, job.read, self._wanted, self._tell) is None

    def _placed(self, job: Job) -> Path:
        """The file of a document, decided once for each."""
        if job.path is None:
            job.path = self._names.of(job.source, job.read)
            left = self._names.left_to_another(job.source, job.path)
            if left is not None:
                told = f"{job.read.label}: its cache is {job.path}, for {left} is of another document"
                self._tell(Remark(DETAIL if job.path.exists() else NOTE, told))
        return job.path

    def tokenise(self, job: Job) -> None:
        job.parent, job.bases = self._base, () if self._base is None else (self._base,)
        tokenise(job, self._model(), self._tell)

    def make(self, job: Job, writer: Executor) -> Result | Future[Result]:
        plan, path = self._plan, self._placed(job)
        check_place(path)
        if self._base is not None and self._base.path is not None:
            check_not_base(path, self._base.path)
        force = not self._is_written(path) and plan.force  # waits, without --force, too
        with ExitStack() as lock:
            lock.enter_context(gfcache.output_lock(path))
            if path.exists() and not force:
                fresh = fresh_report(path, job.read, self._wanted, self._tell)
                if fresh is not None:
                    with suppress(gfcache.CacheFormatError):
                        Journal(path).remove()  # of a run that was killed when all but that was done
                    return PassedOver(job.source, fresh)
            check_replaceable(path, job.read, self._model.card.prefill_fingerprint, plan.force)
            self.tokenise(job)
            compute(job, self._model(), fresh=plan.force, journal_s=plan.journal_s, tell=self._tell)
            writing = self._writes[real(path)] = writer.submit(_written, job, lock.pop_all())
            return writing

    def _is_written(self, path: Path) -> bool:
        """Whether this call has written the file already, under another name of it; waits for one on its way.

        Its lock would not hold up this thread, which has lent it to the writer.
        """
        writing = self._writes.get(real(path))
        if writing is None:
            return False
        wait([writing])
        return writing.exception() is None

    def undone(self) -> list[Failed]:
        return []


def _written(job: Job, lock: ExitStack) -> Result:
    """Write the file and give up its lock, in a writer's thread."""
    assert job.path is not None
    with lock, gfcache.lent_lock(job.path):
        return Written(job.source, save(job))


class IntoLibrary:
    """Caches where `Library.get` finds them."""

    def __init__(self, model: LazyModel, plan: Plan, library: Library, tell: Tell) -> None:
        self._model, self._plan, self._library, self._tell = model, plan, library, tell
        identity = card_identity(model.card, model.dtype)
        self._wanted = Wanted(identity, model.card, plan.checkpoints, None, plan.layout, plan.coding)
        self._kept: dict[Path, tuple[Source, type[Written] | type[PassedOver]]] = {}
        self._undone: deque[Failed] = deque()

    def expect(self, sources: Sequence[Source]) -> None:
        """A library tells documents apart by their bytes."""

    def is_wanted(self, job: Job) -> bool:
        return self._plan.force or not self._is_good(self._find(job))

    def _find(self, job: Job) -> Found:
        return self._library.find(job.read, self._model.card, self._model.dtype, verified=True)

    def _is_good(self, found: Found) -> bool:
        """Whether it is a hit with the positions asked for; without a wish, any will do."""
        if found.state != HIT:
            return False
        with gfcache.read_cache(found.path) as file:
            if not has_form(file.header, self._wanted):
                return False
            return self._plan.checkpoints == "auto" or has_checkpoints(found.path, file.header, self._wanted)

    def tokenise(self, job: Job) -> None:
        if job.token_ids is None:
            job.token_ids, job.document_range = document_token_ids(self._model(), job.read.text)

    def make(self, job: Job, writer: Executor) -> Result | Future[Result]:
        found, plan = self._find(job), self._plan
        if not plan.force and self._is_good(found):
            tidy(found.path)
            with gfcache.read_cache(found.path) as file:
                tokens, size = file.header.tokens, file.file_bytes
            self._kept[found.path] = job.source, PassedOver
            return PassedOver(job.source, Report(found.path, tokens, tokens, size))
        self.tokenise(job)
        assert job.token_ids is not None
        label = job.read.label
        long = length_remark(label, job.tokens, self._model())
        if long is not None:
            self._tell(Remark(WARNING, long))
        kept = self._library.get(
            self._model(),
            job.read,
            checkpoints=None if plan.checkpoints == "auto" else plan.checkpoints,
            progress=lambda done, total: self._progress(label, done, total),
            fresh=plan.force,
            unsuited=found.state == HIT,  # a hit that lacks the positions asked for is none for this run
            prepared=Prepared(job.token_ids, job.document_range, None if job.made is None else job.made.cache),
        )
        for removal in kept.removals:
            self._note_removed(removal)
        if kept.path is None:
            assert kept.obstacle is not None
            raise kept.obstacle
        self._kept[kept.path] = job.source, Written
        tokens = kept.cache.length
        return Written(job.source, Report(kept.path, tokens, tokens - kept.tokens_computed, kept.path.stat().st_size))

    def _progress(self, label: str, done: int, total: int) -> None:
        self._tell(Progress(label, done, total))

    def _note_removed(self, removal: gfcache.Removal) -> None:
        """Tell what made room; what this run itself has put there has failed after all."""
        self._tell(Removed(removal))
        for entry in removal.removed:
            path = self._library.store.path(entry)
            if path in self._kept:
                source, before = self._kept.pop(path)
                self._undone.append(Failed(source, MadeRoom(source.name), path, before))

    def undone(self) -> list[Failed]:
        found = list(self._undone)
        self._undone.clear()
        return found
