"""Batches in Python: events in order, failures that end nothing, fresh caches passed over, files written behind."""

from __future__ import annotations

import contextlib
import errno
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gfcache
import pytest
import torch

import goldfinch
from goldfinch.jobs import batch as batches
from goldfinch.jobs.batch import Batch
from goldfinch.jobs.destinations import Plan
from goldfinch.jobs.events import NOTE, Begun, Failed, PassedOver, Progress, Remark, Written
from goldfinch.jobs.job import Job, compute, save, tokenise
from goldfinch.jobs.sources import Source, find_sources, shard_of
from tests.conftest import SAMPLES
from tests.cpu_time import PATIENCE_S

TEXT = (SAMPLES / "four-freedoms-1941.txt").read_text()


@pytest.fixture
def model(tiny_model: Path) -> goldfinch.LanguageModel:
    return goldfinch.load_model(tiny_model)


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    """Four documents; the second is binary."""
    for name, length in (("a", 900), ("c", 2500), ("d", 700)):
        (tmp_path / f"{name}.txt").write_text(name + TEXT[:length])
    (tmp_path / "b.txt").write_bytes(b"\0\1\2")
    return find_sources([str(tmp_path / f"{name}.txt") for name in "abcd"]).documents


def kinds(batch: Batch, sources: list[Source]) -> list[tuple[str, str]]:
    """(document, kind of event) of a run, without those that say that one has begun."""
    events = [event for event in batch.events(sources) if not isinstance(event, Begun)]
    return [(Path(event.source.name).stem, type(event).__name__) for event in events]


def test_events_come_in_order_and_a_failure_ends_nothing(model, sources: list[Source]) -> None:
    told: list[Any] = []
    events = list(Batch(model, tell=told.append).events(sources))
    assert [e.source for e in events if isinstance(e, Begun)] == sources
    ended = [e for e in events if not isinstance(e, Begun)]
    assert [e.source for e in ended] == sources
    assert [type(e) for e in ended] == [Written, Failed, Written, Written]
    assert isinstance(ended[1].error, goldfinch.GoldFinchError)
    for event in (e for e in ended if isinstance(e, Written)):
        assert events.index(Begun(event.source)) < events.index(event)
        assert event.report.path == Path(event.source.name).with_suffix(".gfc")
        assert gfcache.verify_cache(event.report.path).tokens == event.report.tokens
        assert event.report.bytes == event.report.path.stat().st_size
    shown = [(e.label, e.done, e.total) for e in told if isinstance(e, Progress)]
    assert [(label, total) for label, done, total in shown if done == total] == [
        (e.source.name, e.report.tokens) for e in ended if isinstance(e, Written)
    ]


def test_fresh_ones_are_passed_over_and_changed_ones_resumed(model, sources: list[Source], tmp_path: Path) -> None:
    plan = Plan(output=f"{tmp_path}/out/", checkpoints="512")
    (tmp_path / "out").mkdir()
    assert kinds(Batch(model, plan), sources)[0] == ("a", "Written")
    assert dict(kinds(Batch(model, plan), sources)) == {
        "a": "PassedOver", "b": "Failed", "c": "PassedOver", "d": "PassedOver",
    }  # fmt: skip
    (tmp_path / "c.txt").write_text("c" + TEXT[:2400])
    changed = next(e for e in Batch(model, plan).events(sources) if isinstance(e, Written))
    assert Path(changed.source.name).name == "c.txt"
    assert 0 < changed.report.tokens_reused < changed.report.tokens
    cold = goldfinch.prefill(model, goldfinch.document_token_ids(model, "c" + TEXT[:2400])[0])
    resumed = goldfinch.open_cache(changed.report.path, model)
    assert torch.equal(cold.tail_hidden, resumed.tail_hidden)
    assert dict(kinds(Batch(model, Plan(plan.output, "512", force=True)), sources))["a"] == "Written"


def test_an_interrupted_run_resumes(model, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text(TEXT)
    found = find_sources([str(tmp_path / "long.txt")]).documents
    plan = Plan(journal_s=0.0)

    def stop(event: object) -> None:
        if isinstance(event, Progress) and event.done > 1024:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Batch(model, plan, tell=stop).events(found))
    assert (tmp_path / ".long.gfc.journal").exists()
    done = [e for e in Batch(model, plan).events(found) if isinstance(e, Written)]
    assert done[0].report.tokens_reused >= 1024
    assert not (tmp_path / ".long.gfc.journal").exists()


def test_into_a_library(model, sources: list[Source]) -> None:
    with goldfinch.Library() as library:
        assert [kind for _, kind in kinds(Batch(model, library=library), sources)].count("Written") == 3
        assert [kind for _, kind in kinds(Batch(model, library=library), sources)].count("PassedOver") == 3
        assert library.get(model, sources[0].name).tokens_computed == 0


def test_a_job_pickles_and_is_computed_elsewhere(model, sources: list[Source], tmp_path: Path) -> None:
    job = Job(sources[0], "none", sources[0].read(), tmp_path / "a.gfc")
    tokenise(job, model)
    other = pickle.loads(pickle.dumps(job))
    assert other.source == job.source
    assert other.document == job.document
    assert other.token_ids.tolist() == job.token_ids.tolist()
    compute(other, model)
    report = save(other)
    assert report == pickle.loads(pickle.dumps(report))
    assert other.made is None
    assert gfcache.verify_cache(tmp_path / "a.gfc").tokens == job.tokens


def test_files_are_written_while_the_next_is_computed(model, sources: list[Source], monkeypatch) -> None:
    """Under the lock that was taken before computing; a file that cannot be written fails alone."""
    second_begun, real_save, locked = threading.Event(), goldfinch.DocumentCache.save, []

    def try_lock(path: Path) -> None:
        with contextlib.suppress(gfcache.CacheLocked), gfcache.output_lock(path):
            return
        locked.append(path.name)

    def slow(cache: goldfinch.DocumentCache, path: Path, **options: Any) -> gfcache.Header:
        if path.name == "a.gfc":
            assert second_begun.wait(PATIENCE_S)
            other = threading.Thread(target=try_lock, args=(path,))
            other.start()
            other.join()
        if path.name == "c.gfc":
            raise gfcache.CacheWriteError(path, OSError(errno.ENOSPC, "No space left on device"))
        return real_save(cache, path, **options)

    def tell(event: object) -> None:
        if isinstance(event, Progress) and event.label.endswith("d.txt"):
            second_begun.set()

    monkeypatch.setattr(goldfinch.DocumentCache, "save", slow)
    monkeypatch.setattr(batches, "DEFER_S", 1e9)  # on a busy machine computing takes long
    found = kinds(Batch(model, tell=tell), [sources[0], sources[2], sources[3]])
    assert found == [("a", "Written"), ("c", "Failed"), ("d", "Written")]
    assert locked == ["a.gfc"]


@pytest.mark.parametrize(
    ("seconds", "elsewhere", "reported"), [(1e9, False, None), (-1.0, False, True), (-1.0, True, None)]
)
def test_a_written_file_is_unlocked_and_reported(
    seconds: float, elsewhere: bool, reported: bool | None, model, sources: list[Source], monkeypatch, tmp_path: Path
) -> None:
    """Unlocked as soon as it is written; and where computing takes long, reported before the next is begun.

    While another device computes, what is written costs nothing, and is reported when it happens to be done.
    """
    monkeypatch.setattr(batches, "DEFER_S", seconds)
    monkeypatch.setattr(Batch, "overlaps", elsewhere)
    seen, came = [], []

    def tell(event: object) -> None:
        if isinstance(event, Progress) and event.label.endswith("d.txt") and not seen:
            deadline = time.monotonic() + PATIENCE_S
            while not ((tmp_path / "a.gfc").exists() and not (tmp_path / ".a.gfc.lock").exists()):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            with gfcache.output_lock(tmp_path / "a.gfc"):
                seen.append(any(isinstance(e, Written) for e in came))

    for event in Batch(model, tell=tell).events([sources[0], sources[3]]):
        came.append(event)
    assert len(seen) == 1
    assert reported is None or seen == [reported]


def test_what_belongs_to_another_document_is_not_replaced(model, sources: list[Source], tmp_path: Path) -> None:
    plan = Plan(output=str(tmp_path / "one.gfc"))
    list(Batch(model, plan).events(sources[:1]))
    failed = [e for e in Batch(model, plan).events(sources[2:3]) if isinstance(e, Failed)]
    assert isinstance(failed[0].error, goldfinch.errors.NotReplaced)
    assert failed[0].error.path == tmp_path / "one.gfc"


def test_what_is_odd_is_told(model, tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_bytes("caf\xe9 and more".encode("latin-1"))
    told: list[Any] = []
    list(Batch(model, tell=told.append).events([Source(str(tmp_path / "old.txt"))]))
    remarks = [event for event in told if isinstance(event, Remark)]
    assert [remark.level for remark in remarks] == ["warning"]
    assert "is not UTF-8" in remarks[0].text
    assert [type(e) for e in Batch(model).events([Source(str(tmp_path / "old.txt"))])] == [Begun, PassedOver]


@contextlib.contextmanager
def written_by_another(cache: Path, seconds: float | None = None) -> Iterator[None]:
    """Another process holds the lock of a cache, perhaps for some seconds only."""
    script = "import sys, time, gfcache\nwith gfcache.output_lock(sys.argv[1]): print(flush=True); time.sleep(float(sys.argv[2]))"
    command = [sys.executable, "-c", script, str(cache), str(600.0 if seconds is None else seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline()
        yield
        other.kill()


def test_what_another_run_writes_is_waited_for_after_the_others(model, sources: list[Source], tmp_path: Path) -> None:
    told: list[Any] = []
    with written_by_another(tmp_path / "a.gfc", 3.0):
        found = kinds(Batch(model, Plan(lock_wait_s=60.0), tell=told.append), sources)
    assert found == [("b", "Failed"), ("c", "Written"), ("d", "Written"), ("a", "Written")]
    notes = [event.text for event in told if isinstance(event, Remark) and event.level == NOTE]
    assert notes == ["waiting for a document that another run is writing"]
    assert gfcache.verify_cache(tmp_path / "a.gfc").tokens > 0


def test_what_another_run_has_written_meanwhile_is_fresh(
    model, sources: list[Source], tmp_path: Path, monkeypatch
) -> None:
    """Two runs of one command: each document is computed by one of them, and nothing fails."""
    other = threading.Event()

    def wait(seconds: float) -> None:
        lock.close()  # the other run is done
        other.set()

    lock = contextlib.ExitStack()
    assert kinds(Batch(model), sources[:1]) == [("a", "Written")]
    with lock:
        lock.enter_context(written_by_another(tmp_path / "a.gfc"))
        monkeypatch.setattr(batches.time, "sleep", wait)
        found = kinds(Batch(model, Plan(lock_wait_s=60.0)), sources)
    assert found[-1] == ("a", "PassedOver")
    assert other.is_set()


def test_what_is_still_being_written_when_the_time_is_up_fails(model, sources: list[Source], tmp_path: Path) -> None:
    with written_by_another(tmp_path / "a.gfc"):
        for wait_s, place in ((0.0, 0), (0.5, -1)):
            events = [e for e in Batch(model, Plan(lock_wait_s=wait_s)).events(sources) if not isinstance(e, Begun)]
            assert len(events) == len(sources)
            assert isinstance(events[place], Failed)
            assert isinstance(events[place].error, gfcache.CacheLocked)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shards_are_all_documents_under_the_names_of_the_whole_call(model, tmp_path: Path, count: int) -> None:
    for name in ("a.txt", "a.md", "b.txt"):
        (tmp_path / name).write_text(name + TEXT[:300])
    (tmp_path / "out").mkdir()
    everything = find_sources([str(tmp_path / name) for name in ("a.txt", "a.md", "b.txt")])
    taken = [shard_of(everything, n + 1, count).documents for n in range(count)]
    assert sorted(s.name for part in taken for s in part) == sorted(s.name for s in everything.documents)
    assert max(map(len, taken)) - min(map(len, taken)) <= 1
    for part in taken:
        list(Batch(model, Plan(f"{tmp_path}/out/")).events(part, everything.documents))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.md.gfc", "a.txt.gfc", "b.gfc"]
