"""Outputs whose names are as long as names may be: their locks, temporary files and journals have names, too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from gfcache.files.atomic import remove_remnants, temporary_beside, temporary_prefix
from gfcache.files.locks import lock_path, output_lock, sweep
from gfcache.files.names import MOST_BYTES, fitting


@pytest.mark.parametrize("letter", ["n", "ü", "好"])
def test_a_name_has_room_for_what_follows(letter: str) -> None:
    for length in (1, 50, 60, 80, 100, 120, 200, 255):
        name = letter * (length // len(letter.encode()))
        for more in (0, 4, 40):
            found = fitting(name, more)
            assert len(found.encode()) + more <= MOST_BYTES
            assert (found == name) == (len(name.encode()) + more <= MOST_BYTES)
    assert fitting("n" * 250 + "a", 40) != fitting("n" * 250 + "b", 40)


def test_writers_of_long_names_lock_write_and_clean_up(tmp_path: Path) -> None:
    for length in (200, 231, 240, 251, 255):
        path, other = tmp_path / ("n" * length), tmp_path / ("n" * (length - 1) + "m")
        with output_lock(path):
            assert lock_path(path).exists()
            with temporary_beside(path) as (handle, temporary):
                os.write(handle, b"x")
                os.close(handle)
                os.replace(temporary, path)
        left = tmp_path / f"{temporary_prefix(path)}abcdefgh.tmp"
        left.write_text("of a writer that was killed")
        remove_remnants(other)
        assert left.exists()
        lock_path(path).write_text("")
        sweep(path)
        assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]
        path.unlink()
