"""Writers that are stopped at any step: the old file or the new one, never another, and nothing beside it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import gfcache
import pytest
from gfcache.files.locks import sweep
from gfcache.files.replace import replacing, replacing_folder

from tests.cache_format.faults import act_at, in_child, names_of_steps, watch
from tests.cache_format.small_cache import header, sections

OLD, NEW = header(writer="old"), header(writer="new")


@pytest.fixture
def steps(tmp_path: Path) -> list[str]:
    """Steps of one write."""
    names = names_of_steps(lambda: gfcache.write_cache(tmp_path / "count.gfc", NEW, sections()))
    (tmp_path / "count.gfc").unlink()
    calls = [name.removeprefix("before ") for name in names if name.startswith("before ")]
    assert [name for at, name in enumerate(calls) if calls[at - 1 : at] != ["write"] or name != "write"] == [
        "flock", "mkstemp", "fdopen", "write", "fsync", "replace", "unlink", "fsync", "unlink",
    ]  # fmt: skip
    assert calls.count("write") > 10
    return names


@pytest.mark.slow
@pytest.mark.parametrize("replaces", [False, True])
def test_a_writer_killed_at_any_step_leaves_the_old_file_or_the_new(
    replaces: bool, steps: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "doc.gfc"
    outcomes = []
    for step in range(len(steps)):
        path.unlink(missing_ok=True)
        if replaces:
            gfcache.write_cache(path, OLD, sections())

        def act(step: int = step) -> None:
            watch(pytest.MonkeyPatch(), act_at(step, lambda: os._exit(137)))
            gfcache.write_cache(path, NEW, sections())

        assert in_child(act) == 137
        outcomes.append(gfcache.verify_cache(path).writer if path.exists() else "none")
        # The next writer is not hindered, and clears away what the killed one left.
        assert gfcache.write_cache(path, NEW, sections()).writer == "new"
        assert gfcache.verify_cache(path).writer == "new"
        assert [p.name for p in tmp_path.iterdir()] == ["doc.gfc"]
    before = steps.index("after replace")
    assert set(outcomes[:before]) == {"old" if replaces else "none"}
    assert set(outcomes[before:]) == {"new"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_an_error_at_any_step_leaves_the_old_file(
    code: int, steps: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "doc.gfc"
    gfcache.write_cache(path, OLD, sections())
    before = path.read_bytes()

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    first, last = steps.index("before fdopen"), steps.index("before replace")
    failing = [step for step in range(first, last + 1) if steps[step] != "after fdopen"]
    for step in [steps.index("before flock"), steps.index("before mkstemp"), *failing]:
        with monkeypatch.context() as patch:
            watch(patch, act_at(step, fail))
            with pytest.raises(gfcache.CacheWriteError) as caught:
                gfcache.write_cache(path, NEW, sections())
        assert caught.value.errno == code
        assert path.read_bytes() == before
        left = [p.name for p in tmp_path.iterdir()]
        assert left == ["doc.gfc"] or steps[step] == "before flock"
        if steps[step] == "before flock":
            (tmp_path / ".doc.gfc.lock").unlink()
    # The folder's sync comes after the rename: what cannot be made durable is written all the same.
    with monkeypatch.context() as patch:
        watch(patch, act_at(len(steps) - 1 - steps[::-1].index("before fsync"), fail))
        gfcache.write_cache(path, NEW, sections())
    assert gfcache.verify_cache(path).writer == "new"


def test_an_interrupt_at_any_step_leaves_one_of_the_two(
    steps: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "doc.gfc"

    def interrupt() -> None:
        raise KeyboardInterrupt

    # A signal comes between system calls; within `uninterrupted` it waits (test_writer has real ones).
    for step in range(steps.index("before write"), steps.index("after replace") + 1):
        gfcache.write_cache(path, OLD, sections())
        with monkeypatch.context() as patch:
            watch(patch, act_at(step, interrupt))
            with pytest.raises(KeyboardInterrupt):
                gfcache.write_cache(path, NEW, sections())
        assert gfcache.verify_cache(path).writer == ("new" if steps[step] == "after replace" else "old")
        assert [p.name for p in tmp_path.iterdir()] == ["doc.gfc"]


def test_a_failing_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def half() -> None:
        with replacing(path) as stream:
            stream.write(b"new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("mode", "old", "expected"), [(0o600, 0o644, 0o600), (None, 0o640, 0o640), (None, None, 0o644)]
)
def test_permissions(mode: int | None, old: int | None, expected: int, tmp_path: Path) -> None:
    path, mask = tmp_path / "a.txt", os.umask(0o022)
    try:
        if old is not None:
            path.touch()
            path.chmod(old)
        with replacing(path, mode) as stream:
            assert os.fstat(stream.fileno()).st_mode & 0o777 == 0o600  # while it is written
            stream.write(b"x")
    finally:
        assert os.umask(mask) == 0o022
    assert path.stat().st_mode & 0o777 == expected


def test_temporary_names_tell_output_and_process(tmp_path: Path) -> None:
    """So the holder of an output's lock can remove what is left, and anybody sees whether its writer lives."""
    for name in ("doc.gfc", "a" * 241):
        with replacing(tmp_path / name):
            (temporary,) = tmp_path.iterdir()
        known = name if len(name) < 200 else name[:190]
        assert temporary.name.startswith(f".{known}")
        assert f".gf-{os.getpid()}-" in temporary.name
        assert temporary.name.endswith(".tmp")
        assert [p.name for p in tmp_path.iterdir()] == [name]
        temporary.touch()
        (tmp_path / f".{name[:241]}.lock").touch()
        with gfcache.output_lock(tmp_path / name):  # a lock left behind: its writer was killed
            assert not temporary.exists()
        (tmp_path / name).unlink()


def folder_of(path: Path, text: str) -> None:
    with replacing_folder(path) as folder:
        (folder / "a.txt").write_text(text)


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "m"
    folder_of(path, "old")
    assert path.stat().st_mode & 0o777 == 0o755

    def half() -> None:
        with replacing_folder(path) as folder:
            (folder / "a.txt").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert (path / "a.txt").read_text() == "old"
    folder_of(path, "new")
    assert (path / "a.txt").read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_whose_writer_was_killed_is_put_back(tmp_path: Path) -> None:
    path, notes = tmp_path / "m", tmp_path / ".m.my-notes"
    notes.mkdir()
    folder_of(path, "old")
    rename = os.replace
    for at in range(2):
        for after in (False, True):
            seen = [0]

            def killed(source: Path, target: Path, at: int = at, after: bool = after, seen: list[int] = seen) -> None:
                if seen[0] == at and not after:
                    os._exit(137)
                rename(source, target)
                if seen[0] == at:
                    os._exit(137)
                seen[0] += 1

            def act(killed: Callable[[Path, Path], None] = killed) -> None:
                pytest.MonkeyPatch().setattr(os, "replace", killed)
                folder_of(path, "new")

            assert in_child(act) == 137
            assert len(list(tmp_path.iterdir())) > 2
            sweep(path)
            assert (path / "a.txt").read_text() == ("new" if at and after else "old")
            assert sorted(tmp_path.iterdir()) == [notes, path]
    sweep(tmp_path / "absent" / "m")  # no folder, nothing to do


def test_a_missing_folder_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(gfcache.CacheWriteError):
        gfcache.write_cache(tmp_path / "absent" / "doc.gfc", NEW, sections())


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
