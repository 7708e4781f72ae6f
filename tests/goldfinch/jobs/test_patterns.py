"""Files of a pattern and below a folder: as the standard library finds them, but through no link to a folder."""

from __future__ import annotations

import glob
import os
import subprocess
from pathlib import Path

import pytest

from goldfinch.jobs.patterns import files_below, fitting

PATTERNS = [
    "*.txt", "**/*.txt", "a/**/*.txt", "a/**", "*/**/*.txt", "**/b/*.txt", "./**/*.txt", "**/**/z.txt", "a/**/c/**",
    "no/**/x", "**/we?i?rd.txt", "a//**//*.txt", "../kb/**/*.txt", "**/[yz].txt", "a***", "**",
]  # fmt: skip


@pytest.fixture
def kb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("x.txt", "a/y.txt", "a/b/z.txt", "a/we[i]rd.txt", ".h/q.txt", "a/b/c/.hidden.txt", "a/b/c/w.txt"):
        path = tmp_path / "kb" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path / "kb")
    return tmp_path / "kb"


@pytest.mark.parametrize("pattern", [*PATTERNS, "{}/**/*.txt", "{}/**"])
def test_patterns_mean_what_they_mean_elsewhere(kb: Path, pattern: str) -> None:
    pattern = pattern.format(kb)
    assert {p.rstrip("/") for p in fitting(pattern)} == {p.rstrip("/") for p in glob.glob(pattern, recursive=True)} - {
        ""
    }


def test_links_to_folders_are_not_walked_through(kb: Path) -> None:
    """Two links of a folder to itself, and the standard library tries 2^40 paths."""
    for n in range(4):
        (kb / f"loop{n}").symlink_to(".")
        (kb / "a" / f"up{n}").symlink_to("..")
    assert sorted(set(fitting("**/*.txt"))) == ["a/b/c/w.txt", "a/b/z.txt", "a/we[i]rd.txt", "a/y.txt", "x.txt"]
    assert list(fitting("loop1/x.txt")) == ["loop1/x.txt"]  # one that is named


def test_links_that_leave_the_folder_are_found_by_their_own_pattern_alone(kb: Path, tmp_path: Path) -> None:
    """`**` takes whatever lies below, as -r does: a link to a private key in somebody's folder was cached."""
    (tmp_path / "key.txt").touch()
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "w.txt").touch()
    (kb / "a" / "link.txt").symlink_to(tmp_path / "key.txt")
    (kb / "a" / "same.txt").symlink_to("y.txt")
    (kb / "a" / "b" / "out").symlink_to(tmp_path / "private")
    assert "a/link.txt" not in set(fitting("**/*.txt"))
    assert "a/same.txt" in set(fitting("**/*.txt"))
    assert list(fitting("**/out/*.txt")) == []
    assert list(fitting("a/b/out/*.txt")) == ["a/b/out/w.txt"]
    assert "a/link.txt" in set(fitting("a/*.txt"))


def test_caches_below_a_folder_are_no_links_that_leave_it(kb: Path, tmp_path: Path) -> None:
    (tmp_path / "private.gfc").touch()
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "doc.gfc").touch()
    for name in ("a/in.gfc", ".h/hidden.gfc"):
        (kb / name).touch()
    (kb / "same.gfc").symlink_to("a/in.gfc")
    (kb / "out.gfc").symlink_to(tmp_path / "private.gfc")
    (kb / "gone.gfc").symlink_to("nowhere")
    (kb / "folder").symlink_to(tmp_path / "private")
    os.mkfifo(kb / "pipe.gfc")
    (kb / "folder.gfc").mkdir()
    assert files_below(Path("."), ".gfc") == [Path(".h/hidden.gfc"), Path("a/in.gfc"), Path("same.gfc")]


@pytest.mark.usefixtures("kb")
def test_folders_may_be_deeper_than_calls() -> None:
    here = os.open(".", os.O_RDONLY)
    try:
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        Path("deep.gfc").touch()
        os.fchdir(here)
        assert files_below(Path("."), ".gfc") in ([], [Path("d/" * 1500 + "deep.gfc")])
        assert "x.txt" in set(fitting("**/*.txt"))
    finally:
        os.fchdir(here)
        subprocess.run(["rm", "-rf", "d"], check=True)
        os.close(here)
