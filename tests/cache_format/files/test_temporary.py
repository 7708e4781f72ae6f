"""Temporary folders of processes that were killed go with the next one; what is anybody's stays."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from gfcache.files.locks import is_free, lock_path
from gfcache.files.temporary import temporary_folder

from tests.cache_format.faults import in_child


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def killed_in(purpose: str) -> None:
    """A process that is killed while it has a temporary folder with something in it."""

    def work() -> None:
        with temporary_folder(purpose) as folder:
            (folder / "more").mkdir()
            (folder / "more" / "doc.gfc").write_bytes(b"x")
            os._exit(137)

    assert in_child(work) == 137


def test_a_folder_is_private_and_goes_with_its_lock(place: Path) -> None:
    with temporary_folder("doctor") as folder:
        assert folder.parent == place
        assert folder.name.startswith("gf-doctor-")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert not is_free(folder)
    assert names(place) == []


def test_what_a_killed_process_left_goes_with_the_next_for_another_purpose(place: Path) -> None:
    killed_in("bench")
    assert len(names(place)) == 2  # else the rest would hold without a mechanism
    with temporary_folder("doctor") as outer:
        assert names(place) == sorted([outer.name, lock_path(outer).name])
        with temporary_folder("eval") as inner:
            assert outer.is_dir()
            assert inner.is_dir()
    assert names(place) == []


def test_a_folder_that_is_in_use_stays(place: Path) -> None:
    with temporary_folder("bench") as folder:
        (folder / "kept").write_text("x")

        def other() -> None:
            with temporary_folder("bench"):
                os._exit(0)

        assert folder.parent == place
        assert in_child(other) == 0
        assert (folder / "kept").read_text() == "x"


def test_what_has_such_a_name_without_the_lock_stays(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A folder of the user's own, and one that a link in the place of a lock leads to."""
    theirs = tmp_path_factory.mktemp("theirs")
    (theirs / "novel.odt").write_text("novel")
    (place / f"gf-bench-{'0' * 16}").mkdir()
    (place / f"gf-bench-{'1' * 16}").symlink_to(theirs)
    lock_path(place / f"gf-bench-{'1' * 16}").touch()
    (place / f"gf-bench-{'2' * 16}").mkdir()
    lock_path(place / f"gf-bench-{'2' * 16}").symlink_to(theirs / "novel.odt")
    (place / f"gf-bench-{'3' * 16}").mkdir()
    lock_path(place / f"gf-bench-{'3' * 16}").write_text("no lock")
    with temporary_folder("bench"):
        pass
    assert (theirs / "novel.odt").read_text() == "novel"
    assert {name for name in names(place) if name.startswith("gf-")} == {f"gf-bench-{d * 16}" for d in "0123"}


def test_where_nothing_can_be_locked_nothing_is_swept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import fcntl

    killed_in("bench")

    def none(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", none)
    with temporary_folder("doctor"):
        assert len(names(place)) == 4
    assert len(names(place)) == 2
