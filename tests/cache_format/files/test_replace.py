"""Writers that are stopped at any step, writers that meet: the old file or the new one, never another."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import gfcache
import pytest
from gfcache.format import writer

from tests.cache_format.small_cache import T, header, sections

OLD, NEW = header(writer="old"), header(writer="new")


def in_child(action: Callable[[], None]) -> int:
    """Exit code of `action` in a forked process."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except BaseException:
            os._exit(99)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def stop_at(step: int) -> Callable[[str], None]:
    """A step hook that ends the process, as SIGKILL would, at the given step."""
    seen = [0]

    def hook(name: str) -> None:
        if seen[0] == step:
            os._exit(137)
        seen[0] += 1

    return hook


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Steps of one write."""
    names: list[str] = []
    monkeypatch.setattr(writer, "on_step", names.append)
    gfcache.write_cache(tmp_path / "count.gfc", NEW, sections())
    monkeypatch.setattr(writer, "on_step", lambda name: None)
    (tmp_path / "count.gfc").unlink()
    assert {"created", "wrote", "flushed", "synced", "renamed", "finished"} == set(names)
    return len(names)


@pytest.mark.parametrize("replacing", [False, True])
def test_a_writer_killed_at_any_step_leaves_the_old_file_or_the_new(
    replacing: bool, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "doc.gfc"
    outcomes = set()
    for step in range(steps):
        path.unlink(missing_ok=True)
        if replacing:
            gfcache.write_cache(path, OLD, sections())

        def act(step: int = step) -> None:
            writer.on_step = stop_at(step)
            gfcache.write_cache(path, NEW, sections())

        assert in_child(act) == 137
        if path.exists():
            outcomes.add(gfcache.verify_cache(path).writer)
        else:
            assert not replacing
            outcomes.add("none")
        # The next writer is not hindered, and clears away what the killed one left.
        assert gfcache.write_cache(path, NEW, sections()).writer == "new"
        assert gfcache.verify_cache(path).writer == "new"
        assert [p.name for p in tmp_path.iterdir()] == ["doc.gfc"]
    assert outcomes == {"new", "old" if replacing else "none"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_an_error_at_any_step_leaves_the_old_file(
    code: int, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "doc.gfc"
    gfcache.write_cache(path, OLD, sections())
    before = path.read_bytes()
    for step in range(steps - 2):  # the last two come after the rename
        seen = [0]

        def fail(name: str, step: int = step, seen: list[int] = seen) -> None:
            seen[0] += 1
            if seen[0] == step + 1:
                raise OSError(code, os.strerror(code))

        monkeypatch.setattr(writer, "on_step", fail)
        with pytest.raises(gfcache.CacheWriteError) as caught:
            gfcache.write_cache(path, NEW, sections())
        assert caught.value.errno == code
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["doc.gfc"]


def test_an_interrupt_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "doc.gfc"
    gfcache.write_cache(path, OLD, sections())

    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "on_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        gfcache.write_cache(path, NEW, sections())
    assert gfcache.verify_cache(path).writer == "old"
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
    import threading

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


def test_a_missing_folder_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(gfcache.CacheWriteError):
        gfcache.write_cache(tmp_path / "absent" / "doc.gfc", NEW, sections())


def test_remnants_of_another_output_are_left_alone(tmp_path: Path) -> None:
    for name in (".report.lock", ".report.ab_1.tmp", ".report.gfc.ab_1.tmp"):
        (tmp_path / name).touch()
    with gfcache.output_lock(tmp_path / "report"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == [".report.gfc.ab_1.tmp"]


@pytest.mark.parametrize("write", ["write", "copy"])
def test_a_link_as_output_is_followed(write: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "real.gfc", tmp_path / "link.gfc"
    gfcache.write_cache(real, OLD, sections())
    link.symlink_to(real)
    with gfcache.output_lock(link):  # one lock for both names
        assert (tmp_path / "there" / ".real.gfc.lock").exists()
        with gfcache.output_lock(real):
            pass
    if write == "write":
        gfcache.write_cache(link, NEW, sections())
    else:
        gfcache.write_cache(tmp_path / "new.gfc", NEW, sections())
        gfcache.copy_cache(tmp_path / "new.gfc", link)
    assert link.is_symlink()
    with gfcache.read_cache(real) as file:
        assert file.header.writer == "new"
    assert [p.name for p in (tmp_path / "there").iterdir()] == ["real.gfc"]
