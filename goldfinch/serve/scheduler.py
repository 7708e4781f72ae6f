"""Who computes when: one thread that takes all questions under way a token further, those to one document together.

Questions that wait for the same document begin together, as a batch, and all batches take turns token by token, so a
long answer holds nobody up. What else needs a model (a document to pre-fill) runs in the same thread and lets the
questions have their turn in between.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from goldfinch.datasets.facts import NOT_STATED
from goldfinch.engine.answer import Answer, Question, Step
from goldfinch.engine.batch_decode import MOST_ROWS
from goldfinch.engine.sampling import Sampling

from .refused import Refused
from .sessions import AllInUse, Open, Sessions
from .shelf import Shelved

# Questions that are answered at a time, each of which holds a state.
MOST_RUNNING = MOST_ROWS


@dataclass(frozen=True)
class Done:
    """A whole answer.

    Attributes:
        answer: it.
        citations: the places that were read most, if they were asked for.
        load_s: seconds that opening the document took; 0 when it was open.
        first_token_s: seconds from the request to the first text of the answer.
    """

    answer: Answer
    citations: tuple[Any, ...]
    load_s: float
    first_token_s: float


# What a request hears: a piece of the answer, the whole of it, or why there is none.
Event = str | Done | Exception


@dataclass(eq=False)
class Job:
    """A question that waits or is answered.

    Attributes:
        document: that it is about.
        text: the question; with `raw`, text to continue.
        sampling: how it is answered.
        cite: name the places that were read most.
        tell: called from the computing thread.
        given_up: set when nobody waits any more.
    """

    document: Shelved
    text: str
    raw: bool
    sampling: Sampling
    cite: bool
    tell: Callable[[Event], object]
    given_up: bool = False
    asked_at: float = field(default_factory=time.perf_counter)
    first_at: float | None = None


@dataclass(frozen=True, eq=False)
class Errand:
    """Something else for the computing thread: called with what lets questions have their turn."""

    run: Callable[[Callable[[], None]], Any]
    tell: Callable[[Any], object]


class _Batch:
    """Questions to one document that began together."""

    def __init__(self, jobs: list[Job], held: Open, load_s: float) -> None:
        self.jobs, self.held, self._load_s = jobs, held, load_s
        questions = [Question(job.text, job.raw, job.sampling, lambda job=job: job.given_up) for job in jobs]  # type: ignore[misc]
        self._steps: Iterator[list[Step]] = held.engine.answer_together(held.session, questions)
        held.users += len(jobs)

    def step(self) -> bool:
        """A token further; whether there is another."""
        try:
            steps = next(self._steps)
        except StopIteration:
            return False
        except Exception as error:
            for job in self.jobs:
                job.tell(error)
            return False
        for step in steps:
            job = self.jobs[step.index]
            try:
                self._tell(job, step)
            except Exception as error:
                job.tell(error)
        return True

    def _tell(self, job: Job, step: Step) -> None:
        if step.error is not None or step.answering is None:
            job.tell(step.error or RuntimeError("no answer"))
            return
        if job.first_at is None and (step.piece or step.finished):
            job.first_at = time.perf_counter()
        if step.piece:
            job.tell(step.piece)
        if step.finished:
            answer, cited = step.answering.answer(), ()
            given = answer.withheld is None and answer.text.strip() != NOT_STATED
            if job.cite and given and answer.token_ids:
                cited = tuple(self.held.engine.cite(self.held.session, job.text, answer.token_ids, raw=job.raw))
            assert job.first_at is not None
            job.tell(Done(answer, cited, self._load_s, job.first_at - job.asked_at))


class Scheduler:
    """The computing thread and what waits for it.

    Args:
        sessions: open documents.
        most_waiting: requests that may wait.
    """

    def __init__(self, sessions: Sessions, most_waiting: int) -> None:
        self.sessions, self._most_waiting = sessions, most_waiting
        self._waiting, self._errands = deque[Job](), deque[Errand]()
        self._running: list[_Batch] = []
        self._changed = threading.Condition()
        self._ends = self._in_errand = False
        self._thread = threading.Thread(target=self._run, name="gf-serve", daemon=True)

    @property
    def waiting(self) -> int:
        """Questions that wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Questions that are answered now."""
        return sum(len(batch.jobs) for batch in list(self._running))

    def start(self) -> None:
        """Begin to compute."""
        self._thread.start()

    def stop(self) -> None:
        """Give up what is under way, and end."""
        with self._changed:
            self._ends = True
            self._changed.notify()
        self._thread.join()

    def submit(self, work: Job | Errand) -> None:
        """Let something wait for its turn.

        Raises:
            Refused: 503, too much waits.
        """
        with self._changed:
            if self._ends or len(self._waiting) + len(self._errands) >= self._most_waiting:
                raise Refused(503, f"{self._most_waiting} requests wait already", code="busy", hint="try again soon")
            if isinstance(work, Job):
                self._waiting.append(work)
            else:
                self._errands.append(work)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._ends or self._waiting or self._errands or self._running):
                    self._changed.wait()
                if self._ends:
                    break
            self._turn()
            self._do_errand()
        ended = Refused(503, "the server ends", code="busy")
        for job in (*self._waiting, *(job for batch in self._running for job in batch.jobs)):
            job.tell(ended)
        for errand in self._errands:
            errand.tell(ended)

    def _turn(self) -> None:
        """Let what waits begin, and every batch go a token further."""
        self._admit()
        for batch in list(self._running):
            if self._ends:
                return
            if not batch.step() or all(job.given_up for job in batch.jobs):
                self._running.remove(batch)
                batch.held.users -= len(batch.jobs)
                self.sessions.keep_cap()

    def _admit(self) -> None:
        with self._changed:
            room = MOST_RUNNING - self.running
            jobs = [job for job in self._waiting if not job.given_up][: max(room, 0)]
            first = jobs[0].document.digest if jobs else None
            jobs = [job for job in jobs if job.document.digest == first][:MOST_ROWS]
            left = [job for job in self._waiting if job not in jobs and not job.given_up]
            self._waiting.clear()
            self._waiting.extend(left)
        if not jobs:
            return
        try:
            held = self.sessions.open(jobs[0].document)
            room = self.sessions.room(held)
        except AllInUse:
            room = 0
        except Exception as error:
            for job in jobs:
                job.tell(error)
            return
        with self._changed:  # what has no room now goes behind the others: their documents may be open
            self._waiting.extend(jobs[room:])
        if room:
            load_s, held.load_s = held.load_s, 0.0  # whoever comes later finds it open
            self._running.append(_Batch(jobs[:room], held, load_s))
            self.sessions.keep_cap()

    def _do_errand(self) -> None:
        with self._changed:
            errand = self._errands.popleft() if self._errands and not self._in_errand else None
        if errand is None:
            return
        self._in_errand = True
        try:
            errand.tell(errand.run(self._turn))
        except Exception as error:
            errand.tell(error)
        finally:
            self._in_errand = False
