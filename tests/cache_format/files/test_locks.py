"""Locks: writers that meet, file systems without locks, failing ones."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

import gfcache
import pytest
from gfcache import Store
from gfcache.files import locks
from gfcache.store import folder as store_folder

from tests.cache_format.faults import in_child
from tests.cache_format.small_cache import T, header, sections

OLD, NEW = header(writer="old"), header(writer="new")
NO_LOCKS = [errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS]
FAILURES = [errno.EIO, errno.EINVAL, errno.EBADF, errno.ENOMEM]


@pytest.fixture
def flock_says(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the system answer every flock with an error."""

    def choose(code: int) -> None:
        def flock(handle: int, operation: int) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "flock", flock)

    return choose


@pytest.mark.parametrize("code", NO_LOCKS)
def test_a_file_system_without_locks_still_writes(code: int, flock_says: Callable[[int], None], tmp_path: Path) -> None:
    flock_says(code)
    path = tmp_path / "doc.gfc"
    gfcache.write_cache(path, NEW, sections())
    assert gfcache.verify_cache(path).writer == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["doc.gfc"]
    with Store(tmp_path / "store") as store:
        kept = store.path_of("a")
        with store.writing(kept, 1 << 20):
            gfcache.write_cache(kept, NEW, sections())
            store.added(kept)
        assert len(store.entries()) == 1
        assert store.remove(store.entries()).removed


@pytest.mark.parametrize("code", FAILURES)
def test_a_failing_disk_does_not_pass_for_one_without_locks(
    code: int, flock_says: Callable[[int], None], tmp_path: Path
) -> None:
    flock_says(code)
    with pytest.raises(gfcache.CacheWriteError) as caught:
        gfcache.write_cache(tmp_path / "doc.gfc", NEW, sections())
    assert caught.value.errno == code
    assert not (tmp_path / "doc.gfc").exists()
    with Store(tmp_path / "store") as store:
        with pytest.raises(gfcache.CacheWriteError) as caught, store.writing(store.path_of("a"), 1 << 20):
            pytest.fail("written without a lock")
        assert caught.value.errno == code


@pytest.mark.parametrize("code", [errno.EWOULDBLOCK, errno.EACCES])
def test_a_lock_that_is_held_is_one_error(
    code: int, flock_says: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock_says(code)
    with pytest.raises(gfcache.CacheLocked):
        gfcache.write_cache(tmp_path / "doc.gfc", NEW, sections())
    monkeypatch.setattr(store_folder, "LOCK_WAIT_S", 0.05)
    with Store(tmp_path / "store") as store, pytest.raises(gfcache.CacheLocked), store.writing(store.path_of("a"), 1):
        pytest.fail("written without a lock")


def test_no_descriptor_is_lost(flock_says: Callable[[int], None], tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for code in (*NO_LOCKS, *FAILURES, errno.EWOULDBLOCK):
        flock_says(code)
        with contextlib.suppress(OSError):
            os.close(locks.acquire(tmp_path / "lock"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    name = tmp_path / "lock"
    handle = locks.acquire(name)
    with pytest.raises(BlockingIOError):
        locks.acquire(name)
    threading.Timer(0.2, os.close, [handle]).start()
    os.close(locks.acquire(name, wait_s=30.0))


def test_a_lock_file_that_its_holder_removed_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opened the old file before it was removed would hold a lock that nobody else sees."""
    name, real, removed = tmp_path / "lock", fcntl.flock, []

    def flock(handle: int, operation: int) -> None:
        if not removed:
            removed.append(os.fstat(handle).st_ino)
            name.unlink()
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    handle = locks.acquire(name)
    assert os.path.samestat(os.fstat(handle), name.stat())
    os.close(handle)


def test_a_lock_is_lent_to_another_thread(tmp_path: Path) -> None:
    path = tmp_path / "doc.gfc"

    def write() -> None:
        with gfcache.lent_lock(path):
            gfcache.write_cache(path, NEW, sections())

    with gfcache.output_lock(path):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        assert (tmp_path / ".doc.gfc.lock").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["doc.gfc"]


def test_two_writers_one_wins_and_the_other_says_so(tmp_path: Path) -> None:
    path = tmp_path / "doc.gfc"
    read_end, write_end = os.pipe()
    go_end, let_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        with gfcache.output_lock(path):
            os.write(write_end, b"x")
            os.read(go_end, 1)
            gfcache.write_cache(path, NEW, sections())
        os._exit(0)
    os.read(read_end, 1)  # the child holds the lock
    with pytest.raises(gfcache.CacheLocked) as caught:
        gfcache.write_cache(path, OLD, sections())
    assert "another process" in str(caught.value)
    assert not path.exists()
    os.write(let_end, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for end in (read_end, write_end, go_end, let_end):
        os.close(end)
    assert gfcache.verify_cache(path).writer == "new"
    assert gfcache.write_cache(path, OLD, sections()).tokens == T  # the lock went with its holder
    assert [p.name for p in tmp_path.iterdir()] == ["doc.gfc"]


def test_the_lock_of_a_killed_writer_is_free(tmp_path: Path) -> None:
    path = tmp_path / "doc.gfc"

    def die() -> None:
        with gfcache.output_lock(path):
            os._exit(137)

    assert in_child(die) == 137
    assert (tmp_path / ".doc.gfc.lock").exists()
    gfcache.write_cache(path, NEW, sections())
    assert [p.name for p in tmp_path.iterdir()] == ["doc.gfc"]


def test_two_threads_are_two_writers(tmp_path: Path) -> None:
    path, errors = tmp_path / "doc.gfc", []

    def other() -> None:
        try:
            gfcache.write_cache(path, OLD, sections())
        except gfcache.CacheLocked as error:
            errors.append(error)

    with gfcache.output_lock(path):
        with gfcache.output_lock(path):  # the holder itself may enter again
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        gfcache.write_cache(path, NEW, sections())
    assert len(errors) == 1
    assert gfcache.verify_cache(path).writer == "new"


def test_remnants_of_another_output_are_left_alone(tmp_path: Path) -> None:
    others = {".report.gfc.gf-12-abcd_12x.tmp", ".report.download.tmp", ".report.gf-notes.tmp"}
    for name in (".report.lock", ".report.gf-12-abcd_12x.tmp", *others):
        (tmp_path / name).touch()
    with gfcache.output_lock(tmp_path / "report"):
        pass
    assert {p.name for p in tmp_path.iterdir()} == others
