"""What git ignores is left out of folders."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gfcli.gitignore import is_ignored, read_patterns
from tests.gfcli.batch_tree import statuses

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


def test_ignore_files_above_the_folder_count_in_a_repository(tree: Path, capsys, monkeypatch) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    (tree / ".gitignore").write_text("b.md\n")
    read, real = [], Path.read_text

    def read_text(path: Path, *arguments, **options) -> str:  # type: ignore[no-untyped-def]
        read.append(path)
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert "docs/b.md" not in statuses(capsys, "-r", "docs", "-o", "out/")
    ignore_files = [path for path in read if path.name == ".gitignore"]
    assert len(ignore_files) == len({path.absolute() for path in ignore_files})  # each is read once
    assert tree / ".gitignore" in ignore_files
