"""The store of caches: places, index, cap, locks, damage."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import gfcache
import numpy as np
import pytest
from gfcache import CacheFile, SectionData, Store, layout, output_lock

from tests.cache_format.craft import sections_of
from tests.cache_format.small_store import GOLDEN, names, put
from tests.cpu_time import PATIENCE_S


def test_an_empty_store_is_not_made_by_looking(store: Store) -> None:
    assert store.entries() == []
    assert store.used_bytes() == 0
    assert not store.root.exists()


def test_layout_modes_and_tag(store: Store) -> None:
    entry = put(store, "a.txt")
    assert (store.root / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")
    path = store.path(entry)
    assert path.parent.name == path.name[:2]
    assert path.stat().st_mode & 0o777 == 0o600
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert (store.folder / "index.sqlite3").stat().st_mode & 0o777 == 0o600
    assert store.entries()[0].tokens == gfcache.inspect_cache(path)["tokens"]


def test_facts_that_change_survive_a_replaced_file(store: Store) -> None:
    entry = put(store, "a.txt")
    store.pin([entry], True)
    store.tag([entry], ["kb", "x"], [])
    store.used(store.path(entry), hit=True)
    put(store, "a.txt", size=5000)
    found = store.entries()[0]
    assert (found.pinned, found.tags, found.hits) == (True, ("kb", "x"), 1)
    assert found.bytes > entry.bytes
    store.tag([entry], [], ["x"])
    assert store.entries()[0].tags == ("kb",)


def test_files_put_and_removed_by_hand_are_seen(store: Store) -> None:
    entry = put(store, "a.txt")
    other = store.path_of("by hand")
    other.parent.mkdir(exist_ok=True)
    shutil.copy(store.path(entry), other)
    assert len(store.entries()) == 2
    store.path(entry).unlink()
    assert len(store.entries()) == 1
    other.write_bytes(b"damaged now")
    assert store.entries()[0].error is not None


STRANGE = [
    lambda header: {"numerics": {"compute_dtype": {"a": 1}}},
    lambda header: {"numerics": {"compute_dtype": 10**30}},
    lambda header: {"model": header.model | {"name": {"a": 1}}},
    lambda header: {"source": {"name": "\ud800", "path": None}},
]


@pytest.mark.parametrize("strange", STRANGE)
def test_a_file_of_strange_facts_harms_no_other(store: Store, strange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a header lets pass, now or in a later version."""
    good = put(store, "good.txt")
    store.pin([good], True)
    path = store.path_of("strange")
    path.parent.mkdir(exist_ok=True)
    shutil.copy(store.path(good), path)
    real = CacheFile.__init__

    def read(file: CacheFile, place: Path) -> None:
        real(file, place)
        if place == path:
            file.header = dataclasses.replace(file.header, **strange(file.header))

    monkeypatch.setattr(CacheFile, "__init__", read)
    assert store.added(path).error is not None
    (path.parent / os.fsdecode(b"\xff.gfc")).write_bytes(b"no name for a text")
    found = {e.name: e for e in store.entries()}
    assert found.keys() == {good.name, path.relative_to(store.folder).as_posix()}
    assert found[good.name].pinned
    assert found[path.relative_to(store.folder).as_posix()].error is not None


@pytest.mark.parametrize("reason", ["no rights", "newer"])
def test_what_is_unreadable_now_is_neither_remembered_nor_pruned(
    store: Store, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.path(put(store, "a.txt"))
    os.utime(path, (1.0, 1.0))  # not known yet
    real = CacheFile.__init__

    def refuse(file: CacheFile, place: Path) -> None:
        if reason == "newer":
            raise gfcache.UnsupportedVersion(place, 2, 1)
        raise PermissionError(13, "Permission denied", str(place))

    monkeypatch.setattr(CacheFile, "__init__", refuse)
    assert [e.error is not None for e in store.entries()] == [True]
    assert store.prune([], None, dry_run=False).removed == []
    monkeypatch.setattr(CacheFile, "__init__", real)
    assert [(e.error, e.source_name) for e in store.entries()] == [(None, "a.txt")]


def test_the_cap_holds_whatever_is_written(store: Store) -> None:
    store.max_bytes = 500_000
    for n in range(12):
        put(store, f"{n}.txt", size=60_000, used=1000.0 + n)
        assert store.used_bytes() <= 500_000
    assert "11.txt" in names(store)
    assert "0.txt" not in names(store)


def test_a_lower_cap_is_kept_from_the_start(store: Store) -> None:
    entries = [put(store, f"{n}.txt", size=50_000, used=1000.0 + n) for n in range(5)]
    store.pin(entries[:1], True)
    store.close()
    again = Store(store.root, max_bytes=5 * entries[0].bytes // 2)
    removal = again.keep_cap()
    assert again.used_bytes() <= 5 * entries[0].bytes // 2
    assert {"0.txt", "4.txt"} <= names(again)
    assert [why for _, why in removal.skipped] == ["pinned"]
    assert removal.freed_bytes == sum(e.bytes for e in removal.removed)


def test_no_room_beside_what_is_pinned(store: Store) -> None:
    entry = put(store, "a.txt", size=100_000)
    store.pin([entry], True)
    store.max_bytes = entry.bytes + 1000
    with pytest.raises(gfcache.NoRoom) as caught:
        put(store, "b.txt")
    assert caught.value.max_bytes == store.max_bytes
    assert names(store) == {"a.txt"}


def _hold(path: str, ready: object, leave: object) -> None:
    with gfcache.output_lock(path):
        ready.set()  # type: ignore[attr-defined]
        leave.wait(PATIENCE_S)  # type: ignore[attr-defined]


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Another process holds an output meanwhile."""
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(str(path), ready, leave))
    process.start()
    try:
        assert ready.wait(PATIENCE_S)
        yield
    finally:
        leave.set()
        process.join(PATIENCE_S)


def test_nothing_is_removed_for_what_does_not_fit_anyway(store: Store) -> None:
    """Too large on its own; beside what is pinned; beside what another process holds."""
    large, small = put(store, "large.txt", size=150_000, used=1.0), put(store, "small.txt", size=20_000, used=2.0)
    store.max_bytes = large.bytes + small.bytes + 70_000
    remnant = store.path(small).with_name(f".{store.path(small).name}.journal")
    remnant.write_bytes(store.path(small).read_bytes()[:9000])

    def refused(size: int) -> bool:
        with pytest.raises(gfcache.NoRoom) as caught:
            put(store, "new.txt", size=size)
        assert caught.value.needed_bytes > size
        return remnant.exists() and names(store) == {"large.txt", "small.txt"}

    assert refused(store.max_bytes)
    store.pin([large], True)
    assert refused(130_000)
    store.pin([large], False)
    with held(store.path(large)):
        assert refused(130_000)
    put(store, "new.txt", size=130_000)
    assert not remnant.exists()
    assert names(store) == {"small.txt", "new.txt"}


def test_locked_entries_are_skipped_and_counted(store: Store) -> None:
    locked, free = put(store, "locked.txt", used=1.0), put(store, "free.txt", used=2.0)
    with held(store.path(locked)):
        removal = store.remove([locked, free])
        assert [e.source_name for e in removal.removed] == ["free.txt"]
        assert [(e.source_name, why) for e, why in removal.skipped] == [("locked.txt", "locked")]
        assert store.path(locked).exists()
    assert len(store.remove([locked]).removed) == 1


def test_a_base_in_use_is_not_removed(store: Store) -> None:
    base = put(store, "base.txt", used=1.0)
    child_path = store.path_of("child")
    child_path.parent.mkdir(exist_ok=True)
    shutil.copy(GOLDEN / "child.gfc", child_path)
    child = store.added(child_path)
    # The golden child's own base, so that the digests fit.
    shutil.copy(GOLDEN / "goldfinch.gfc", store.path(base))
    entries = {e.name: e for e in store.entries()}
    base, child = entries[base.name], entries[child.name]
    assert child.parent_digest == base.digest
    assert [why for _, why in store.remove([base]).skipped] == ["in use as a base"]
    assert store.path(base).exists()
    done = store.remove([base, child])
    assert {e.name for e in done.removed} == {base.name, child.name}
    assert done.skipped == []


def test_prune_removes_remnants_damage_age_and_excess(store: Store) -> None:
    cap = min(put(store, f"{n}.txt", size=50_000, used=1000.0 + n).bytes for n in range(4)) * 3 // 2
    damaged = store.path_of("damaged")
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_bytes((GOLDEN / "goldfinch.gfc").read_bytes()[:1000])
    remnant = damaged.with_name(f".{damaged.name}.journal")
    remnant.write_bytes(layout.MAGIC + b"y" * 2000)
    os.utime(remnant, (1.0, 1.0))
    before = store.used_bytes()
    plan = store.prune([], cap, dry_run=True)
    assert store.used_bytes() == before
    done = store.prune([], cap, dry_run=False)
    assert [e.name for e in plan.removed] == [e.name for e in done.removed]
    assert done.freed_bytes == before - store.used_bytes()
    assert not remnant.exists()
    assert not damaged.exists()
    assert store.used_bytes() <= cap
    assert "3.txt" in names(store)


def test_what_a_killed_writer_left_is_told_by_its_lock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was told by its age: for an hour `gf cache prune` left the lock of a removal that was killed."""
    put(store, "a.txt")
    output = store.path_of("b.txt")
    output.parent.mkdir(exist_ok=True)
    temporary, journal = (output.with_name(f".{output.name}.{name}") for name in ("gf-12-abcdefgh.tmp", "journal"))
    lock = output.with_name(f".{output.name}.lock")
    for path in (temporary, journal):
        path.write_bytes(layout.MAGIC)
    with output_lock(output):  # somebody is writing it
        assert store.prune([], None, dry_run=True).remnants == []
        assert store.prune([], None, dry_run=False).remnants == []
        with monkeypatch.context() as patch:  # where there are no locks, one that is there may be somebody's
            patch.setattr("fcntl.flock", mock.Mock(side_effect=OSError(errno.ENOLCK, "No locks available")))
            assert store.remnants() == []
    temporary.write_bytes(layout.MAGIC)
    lock.touch()
    assert len(store.prune([], None, dry_run=True).remnants) == 2
    store.prune([], None, dry_run=False)
    assert [path.exists() for path in (temporary, lock, journal)] == [
        False,
        False,
        True,
    ]  # a run may be resumed from it


def _fill(root: str, start: int) -> None:
    with Store(Path(root), max_bytes=600_000) as store:
        for n in range(start, start + 4):
            put(store, f"{n}.txt", size=40_000)
            assert store.used_bytes() <= 600_000


def test_six_processes_write_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    root = str(tmp_path / "cache")
    processes = [context.Process(target=_fill, args=(root, start)) for start in range(0, 600, 100)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_S)
        assert process.exitcode == 0
    with Store(Path(root)) as store:
        assert 0 < store.used_bytes() <= 600_000
        assert all(entry.error is None for entry in store.entries())


def test_five_thousand_caches_are_listed_without_reading_them_again(store: Store, monkeypatch) -> None:
    entry = put(store, "a.txt")
    data = store.path(entry).read_bytes()
    for n in range(5000):
        path = store.path_of("many", str(n))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    store.entries()  # the files are read once
    store.close()
    monkeypatch.setattr("gfcache.store.store.CacheFile", None)
    with Store(store.root) as again:
        assert len([entry for entry in again.entries() if entry.error is None]) == 5001


def _overfill(root: str, start: int) -> None:
    """Files that turn out larger than was announced."""
    with Store(Path(root), max_bytes=600_000) as store:
        for n in range(start, start + 4):
            header, data = sections_of(GOLDEN / "goldfinch.gfc")
            pad = np.zeros(90_000, dtype=np.uint8)
            data.append(SectionData("padding", layout.SOURCE_TEXT, "u8", pad, required=False))
            path = store.path_of("test", str(n))
            with store.writing(path, 1000):
                gfcache.write_cache(path, dataclasses.replace(header, source=None, sections=()), data)
            with store._files.locked():  # nobody else is in the midst of it
                assert store.used_bytes() <= 600_000


def test_what_took_more_than_was_announced_leaves_no_library_over_its_cap(tmp_path: Path) -> None:
    """With six processes a library reached 102 % of its cap: each had room for what it said, not for what it wrote."""
    context = multiprocessing.get_context("spawn")
    root = str(tmp_path / "cache")
    processes = [context.Process(target=_overfill, args=(root, start)) for start in range(0, 600, 100)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_S)
        assert process.exitcode == 0
    with Store(Path(root)) as store:
        assert 0 < store.used_bytes() <= 600_000
