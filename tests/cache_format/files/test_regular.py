"""What is no regular file is refused at once; links are not followed; nothing is read without end."""

from __future__ import annotations

import os
from pathlib import Path

import gfcache
import pytest
from gfcache.files.locks import lock_path
from gfcache.files.regular import NotRegular, TooLarge, open_regular, read_regular, starts_with


@pytest.fixture
def strange(tmp_path: Path) -> dict[str, Path]:
    """One path of every kind that is no regular file."""
    (tmp_path / "target").write_text("mine")
    paths = {name: tmp_path / name for name in ("link", "dangling", "pipe", "folder")}
    paths["link"].symlink_to("target")
    paths["dangling"].symlink_to("nowhere")
    os.mkfifo(paths["pipe"])
    paths["folder"].mkdir()
    return paths | {"device": Path("/dev/zero")}


def test_only_regular_files_are_opened(strange: dict[str, Path]) -> None:
    for name, path in strange.items():
        with pytest.raises((NotRegular, FileNotFoundError)):
            open_regular(path)
        with pytest.raises((NotRegular, FileNotFoundError)):
            open_regular(path, os.O_RDWR | os.O_CREAT)
        if name != "link":
            with pytest.raises((NotRegular, FileNotFoundError)):
                read_regular(path, 10)
        assert not starts_with(path, b"mine")
    assert read_regular(strange["link"], 4) == b"mine"
    with pytest.raises(TooLarge, match="more than 3 bytes"):
        read_regular(strange["link"], 3)
    with pytest.raises(NotRegular, match="a link"):
        read_regular(strange["link"], 4, follow=False)


def test_a_lock_that_is_no_lock_stays_as_it_is(tmp_path: Path) -> None:
    """A link made an empty file where it led; a file of somebody's was removed behind the writer."""
    path, keys = tmp_path / "doc.gfc", tmp_path / "authorized_keys"
    lock = lock_path(path)
    for make in (lambda: lock.symlink_to(keys), lambda: os.mkfifo(lock), lambda: lock.write_text("my notes")):
        make()
        before = os.lstat(lock)
        with pytest.raises(gfcache.CacheWriteError, match=r"\.doc\.gfc\.lock"), gfcache.output_lock(path):
            pass
        assert os.lstat(lock).st_ino == before.st_ino
        assert not keys.exists()
        lock.unlink()


def test_a_limit_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    import tracemalloc

    (tmp_path / "a").write_bytes(b"12345")
    tracemalloc.start()
    try:
        assert read_regular(tmp_path / "a", 1 << 30) == b"12345"
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
