"""Who computes when: batches, errors of one among many, the cap on open documents, and too much to do."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

import pytest

from goldfinch.engine.sampling import Sampling
from goldfinch.serve.refused import Refused
from goldfinch.serve.scheduler import Done, Errand, Event, Job
from goldfinch.serve.service import Service
from goldfinch.serve.sessions import AllInUse
from goldfinch.serve.shelf import Shelved


def job(document: Shelved, text: str = "Who?", tokens: int = 4) -> tuple[Job, queue.Queue[Event]]:
    events = queue.Queue[Event]()
    return Job(document, text, False, Sampling(max_tokens=tokens), False, events.put), events


def end_of(events: queue.Queue[Event]) -> Any:
    while isinstance(event := events.get(timeout=60), str):
        pass
    return event


def test_those_that_wait_for_one_document_begin_together(make_service: Callable[..., Service]) -> None:
    service = make_service()
    tower, other = (next(d for d in service.shelf.documents() if d.name == n) for n in ("tower.txt", "boats.txt"))
    jobs = [job(one, f"What {n}?") for n, one in enumerate((tower, tower, other, tower, tower, tower))]
    jobs.append(job(tower, "word " * 60_000))
    for one, _ in jobs:
        service.scheduler.submit(one)
    sizes = []
    real = service.scheduler._admit

    def noted() -> None:
        before = len(service.scheduler._running)
        real()
        sizes.extend(len(batch.jobs) for batch in service.scheduler._running[before:])

    service.scheduler._admit = noted  # type: ignore[method-assign]
    service.scheduler.start()
    ends = [end_of(events) for _, events in jobs]
    service.scheduler.stop()
    assert sizes == [6, 1]
    assert all(isinstance(end, Done) for end in ends[:-1])
    assert type(ends[-1]).__name__ == "QuestionTooLong"


def test_documents_are_closed_under_a_cap(make_service: Callable[..., Service]) -> None:
    service = make_service(most_bytes=1 << 30)
    documents = service.shelf.documents()
    sessions = service.scheduler.sessions
    first = sessions.open(documents[0])
    sessions.most_bytes = first.bytes + 1
    sessions.open(documents[1])
    assert len(sessions) == 1
    again = sessions.open(documents[0])
    assert again is not first
    again.users = 1
    with pytest.raises(AllInUse):
        sessions.open(documents[1])
    again.users = 0
    sessions.most_bytes = 10
    with pytest.raises(Refused, match=r"takes .* MB") as found:
        sessions.open(documents[1])
    assert found.value.status == 503


def test_questions_under_way_have_their_part_of_the_memory(make_service: Callable[..., Service]) -> None:
    service = make_service()
    sessions = service.scheduler.sessions
    held = sessions.open(service.shelf.documents()[0])
    one = held.session.question_bytes
    sessions.most_bytes = held.bytes + 3 * one
    assert sessions.room(held) == 3
    held.users = 2
    assert sessions.room(held) == 1
    held.users = 3
    assert sessions.room(held) == 0
    held.users = 0
    sessions.most_bytes = held.bytes
    assert sessions.room(held) == 1  # alone, one is answered all the same
    jobs = [job(service.shelf.documents()[0], f"What {n}?") for n in range(5)]
    for asked, _ in jobs:
        service.scheduler.submit(asked)
    service.scheduler.start()
    assert all(isinstance(end_of(events), Done) for _, events in jobs)
    service.scheduler.stop()


def test_too_much_is_refused_and_an_end_told(make_service: Callable[..., Service]) -> None:
    service = make_service(waiting=3)
    waiting = [job(service.shelf.documents()[0]) for _ in range(3)]
    for one, _ in waiting:
        service.scheduler.submit(one)
    with pytest.raises(Refused, match="3 requests wait already"):
        service.scheduler.submit(waiting[0][0])
    service.scheduler._ends = True
    service.scheduler.start()
    service.scheduler.stop()
    assert all(isinstance(end_of(events), Refused) for _, events in waiting)


def test_questions_have_their_turn_in_an_errand(make_service: Callable[..., Service]) -> None:
    service = make_service()
    one, events = job(service.shelf.documents()[0])
    results = queue.Queue[Any]()

    def errand(turn: Callable[[], None]) -> str:
        service.scheduler.submit(one)
        while events.empty() or not isinstance(events.queue[-1], Done):
            turn()
        return "done"

    def fails(_: Callable[[], None]) -> None:
        raise OSError("no")

    service.scheduler.submit(Errand(errand, results.put))
    service.scheduler.submit(Errand(fails, results.put))
    service.scheduler.start()
    assert results.get(timeout=60) == "done"
    assert isinstance(results.get(timeout=60), OSError)
    service.scheduler.stop()
