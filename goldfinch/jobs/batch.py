"""Many documents with one loaded model: each passed over, written or failed, as events in their order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import gfcache

from goldfinch.library.library import Library
from goldfinch.library.opening import LazyModel, Model

from .destinations import Destination, IntoFiles, IntoLibrary, Plan, Result
from .events import DETAIL, NOTE, WARNING, Begun, Failed, Outcome, Remark, Skipped, Tell, tell_nobody
from .job import Job
from .read_ahead import in_packs, in_turn
from .sources import Source

# Computed caches that may wait to be written, and threads that write them: a disk that waits for itself takes several.
UNWRITTEN = 4
# A document that took longer on the CPU is written before the next one is begun: nothing is gained there, and its
# report would wait.
DEFER_S = 0.5
# Between two looks at documents that other runs are writing.
BUSY_STEP_S = 0.2


@dataclass
class _Underway:
    """A document that had its turn, whose file may still be on its way."""

    source: Source
    outcome: Result | Exception | Future[Result]
    seconds: float

    @property
    def is_done(self) -> bool:
        return not isinstance(self.outcome, Future) or self.outcome.done()


class Batch:
    """A run over documents.

    Args:
        model: that computes them, from a model directory.
        plan: what is wanted of each.
        library: where their caches go; None for files.
        base: a cache from a file that every document continues.
        tell: takes what there is to say while a document is computed: Progress, Remark, Removed.
    """

    def __init__(
        self,
        model: Model | LazyModel,
        plan: Plan | None = None,
        *,
        library: Library | None = None,
        base: Any = None,
        tell: Tell = tell_nobody,
    ) -> None:
        self._plan = plan or Plan()
        if library is not None and (base is not None or self._plan.output is not None):
            raise ValueError("caches of a library have no output or base to name")
        if base is not None and self._plan.batch_tokens is not None:
            raise ValueError("documents that continue a base are not packed")
        self._model = model if isinstance(model, LazyModel) else LazyModel.of(model)
        self._has_base, self._tell = base is not None, tell
        self._destination: Destination = (
            IntoFiles(self._model, self._plan, base, tell)
            if library is None
            else IntoLibrary(self._model, self._plan, library, tell)
        )

    @property
    def overlaps(self) -> bool:
        """Whether tokenising the next documents costs the present one nothing: another device computes it."""
        return not self._has_base and not self._model.device.startswith("cpu")

    def events(
        self, sources: Sequence[Source], among: Sequence[Source] | None = None
    ) -> Generator[Outcome, None, None]:
        """What becomes of each document, in order: Begun, and later Written, PassedOver, Skipped or Failed.

        A file is written while the next documents are computed. A document whose file another run is writing is looked
        at again after the others, for `Plan.lock_wait_s`. A failure does not end the run. Closing the generator ends
        it; what is computed by then gets written.

        Args:
            among: all documents of the call, where `sources` are a part of them: names depend on all.
        """
        underway: deque[_Underway] = deque()
        busy: list[Job] = []
        self._destination.expect(sources if among is None else among)
        # Leaving the executor waits: what is computed gets written, whatever ends this run.
        with ThreadPoolExecutor(UNWRITTEN) as writer, closing(self._jobs(sources)) as jobs:
            for job in jobs:
                yield Begun(job.source)
                begun = self._begin(job, writer)
                if self._plan.lock_wait_s and isinstance(begun.outcome, gfcache.CacheLocked):
                    self._tell(Remark(DETAIL, f"{job.source.name}: busy, left for the end: {begun.outcome}"))
                    busy.append(job)
                    continue
                underway.append(begun)
                at_once = underway[-1].seconds > DEFER_S and not self.overlaps
                while underway and (at_once or len(underway) > UNWRITTEN or underway[0].is_done):
                    yield _ended(underway.popleft())
                yield from self._destination.undone()
            while underway:
                yield _ended(underway.popleft())
            for begun in self._waited_for(busy, writer):
                yield _ended(begun)
                yield from self._destination.undone()

    def _waited_for(self, busy: list[Job], writer: Executor) -> Iterator[_Underway]:
        """Documents whose files other runs were writing, each once it is free; locked still when the time is up."""
        if busy:
            what = "a document that another run is" if len(busy) == 1 else f"{len(busy)} documents that other runs are"
            self._tell(Remark(NOTE, f"waiting for {what} writing"))
        deadline = time.monotonic() + self._plan.lock_wait_s
        while busy:
            left = []
            for job in busy:
                begun = self._begin(job, writer)
                if isinstance(begun.outcome, gfcache.CacheLocked) and time.monotonic() < deadline:
                    left.append(job)
                else:
                    yield begun
            if len(left) == len(busy):
                time.sleep(BUSY_STEP_S)
            busy = left

    def _jobs(self, sources: Sequence[Source]) -> Generator[Job, None, None]:
        """The documents in order, some of them read ahead."""
        plan = self._plan
        form: dict[str, Any] = {"coding": plan.coding, "dropping": plan.dropping, "bounds": plan.bounds}
        jobs = (Job(source, plan.checkpoints, **form) for source in sources)
        if not self.overlaps and self._plan.batch_tokens is None:
            yield from jobs
            return
        ahead = {} if self.overlaps else {"ahead": 0}
        with closing(in_turn(jobs, self._prepare, self._destination.tokenise, self._tell, **ahead)) as read:
            if self._plan.batch_tokens is None:
                yield from read
            else:
                yield from in_packs(read, self._plan.batch_tokens, self._model, self._tell)

    def _prepare(self, job: Job) -> bool:
        started = time.perf_counter()
        self._read(job)
        if not self._destination.is_wanted(job):
            job.seconds = time.perf_counter() - started
            return False
        self._model()  # loaded here, once, rather than by one of several threads
        return True

    def _read(self, job: Job) -> None:
        """Read a document, once: standard input cannot be read again."""
        if job.document is None:
            job.document = job.source.read()
            if job.document.remark:
                self._tell(Remark(WARNING, job.document.remark))

    def _begin(self, job: Job, writer: Executor) -> _Underway:
        """Compute the cache of a document, or find that there is nothing to do."""
        before = job.seconds  # it was computed together with others, or found to be fresh
        started = time.perf_counter()
        try:
            self._read(job)
            outcome: Result | Exception | Future[Result] = self._destination.make(job, writer)
        except Exception as error:
            outcome = error
        return _Underway(job.source, outcome, before + time.perf_counter() - started)


def _ended(underway: _Underway) -> Outcome:
    """Wait until the file is written."""
    started = time.perf_counter()
    try:
        outcome = underway.outcome.result() if isinstance(underway.outcome, Future) else underway.outcome
    except Exception as error:
        outcome = error
    if isinstance(outcome, Exception):
        skips = underway.source.is_passed_over(outcome)
        return Skipped(underway.source, outcome) if skips else Failed(underway.source, outcome)
    seconds = underway.seconds + time.perf_counter() - started
    return replace(outcome, report=replace(outcome.report, seconds=seconds))
