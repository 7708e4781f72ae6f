"""What git ignores is left out of folders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from goldfinch.jobs.gitignore import is_ignored, read_patterns

IGNORE_CASES = [
    ("*.log", "a.log", False, True), ("*.log", "x/y/a.log", False, True), ("/a.log", "x/a.log", False, False),
    ("build/", "build", True, True), ("build/", "x/build", True, True), ("build/", "build", False, False),
    ("x/y", "x/y", False, True), ("x/y", "z/x/y", False, False), ("**/y", "a/b/y", False, True), ("x/**", "x/a/b", False, True),
    ("a/**/b", "a/b", False, True), ("a/**/b", "a/x/y/b", False, True), ("a?c", "abc", False, True), ("a?c", "a/c", False, False),
    ("[ab].txt", "a.txt", False, True), ("[!ab].txt", "a.txt", False, False), ("\\#x", "#x", False, True), ("# x", "# x", False, False),
    ("*.txt\n!b.txt", "b.txt", False, False), ("x*", "xyz", False, True), ("*/c", "a/c", False, True), ("*/c", "a/b/c", False, False),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "name", "is_folder", "expected"), IGNORE_CASES)
def test_ignore_patterns_are_those_of_git(
    lines: str, name: str, is_folder: bool, expected: bool, tmp_path: Path
) -> None:
    (tmp_path / ".gitignore").write_text(lines + "\n")
    assert is_ignored(tmp_path / name, is_folder, read_patterns(tmp_path)) == expected
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_folder:
        path.mkdir()
        path = path / "file"
    path.write_text("x")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    git = subprocess.run(["git", "check-ignore", "-q", str(path)], cwd=tmp_path, check=False)
    assert (git.returncode == 0) == expected


def test_many_stars_do_not_make_matching_slow(tmp_path: Path) -> None:
    """With one star after the other trying all places, these would take longer than anybody waits."""
    (tmp_path / ".gitignore").write_text("*a" * 12 + "b\n" + "**/a/" * 12 + "b\n")
    code = (
        "import sys; from pathlib import Path; from goldfinch.jobs.gitignore import is_ignored, read_patterns\n"
        "root = Path(sys.argv[1]); files = read_patterns(root)\n"
        "print(*(is_ignored(root / name, False, files) for name in "
        "('a' * 250, 'a' * 250 + 'b', 'a/' * 1000 + 'c', 'a/' * 1000 + 'b')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["False", "True", "False", "True"]
