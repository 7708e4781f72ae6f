"""Temporary folders of processes that were killed while they compiled go with the next one that compiles."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from gfkernels.temporary import LOCK, temporary_folder

from tests.cache_format.faults import in_child


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def killed() -> None:
        with temporary_folder("gf-kernels-") as folder:
            (folder / "kernels.o").write_bytes(b"x")
            os._exit(137)

    assert in_child(killed) == 137
    (left,) = tmp_path.iterdir()
    (tmp_path / "gf-kernels-a_novel1").mkdir()
    (tmp_path / "gf-kernels-a_novel1" / "novel.odt").touch()
    (tmp_path / "gf-kernels-a_link_1").symlink_to(tmp_path / "gf-kernels-a_novel1")
    (tmp_path / "gf-kernels-nothing1").mkdir()
    with temporary_folder("gf-kernels-") as outer, temporary_folder("gf-kernels-") as inner:
        assert not left.exists()
        assert outer.stat().st_mode & 0o777 == 0o700
        assert (outer / LOCK).is_file()
        assert inner.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gf-kernels-a_link_1", "gf-kernels-a_novel1"]
    assert (tmp_path / "gf-kernels-a_novel1" / "novel.odt").exists()
