"""What git ignores is left out of folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from goldfinch.jobs import gitignore
from goldfinch.jobs.gitignore import is_ignored, read_patterns
from goldfinch.jobs.sources import find_sources
from tests.cpu_time import PATIENCE_S, least_cpu_s

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
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    assert done.stdout.split() == ["False", "True", "False", "True"]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("a pipe", "a pipe"),
        ("a folder", "a folder"),
        ("10^6 lines", "more than"),
        ("10^4 patterns", "more than 4,000 patterns"),
        ("a line of 10 MB", "more than"),
        ("a long pattern", "a pattern of 5,000 characters"),
    ],
)
def test_an_ignore_file_that_cannot_be_used_fails_its_folder(tmp_path: Path, what: str, said: str) -> None:
    """What it was to leave out may be secret. The others go on; nothing waits or grows."""
    folder, path = tmp_path / "a", tmp_path / "a" / ".gitignore"
    folder.mkdir()
    for place in (tmp_path, folder):
        (place / "doc.txt").write_text("text")
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "a folder":
        path.mkdir()
    else:
        texts = {"10^6 lines": "ab\n" * 10**6, "10^4 patterns": "ab\n" * 10**4, "a line of 10 MB": "a" * 10**7}
        path.write_text(texts.get(what, "a" * 5000))
    found = find_sources([str(tmp_path)], recursive=True)
    assert [(Path(s.name).name, s.obstacle is not None) for s in found.documents] == [("doc.txt", False), ("a", True)]
    assert said in str(found.documents[1].obstacle)


@pytest.mark.parametrize("target", ["/dev/zero", "others", "nowhere"])
def test_an_ignore_file_that_is_a_link_is_not_followed(tmp_path: Path, target: str) -> None:
    (tmp_path / "others").write_text("doc.txt")
    (tmp_path / ".gitignore").symlink_to(target)
    (tmp_path / "doc.txt").write_text("text")
    found = find_sources([str(tmp_path)], recursive=True)
    assert str(tmp_path / "doc.txt") in [source.name for source in found.documents]
    assert "is a link" in found.remarks[0]


def test_ignore_files_above_have_the_same_limits(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("ab\n" * 10**4)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "doc.txt").write_text("text")
    (source,) = find_sources([str(tmp_path / "a")], recursive=True).documents
    assert source.obstacle is not None


def test_no_pattern_takes_exponential_time(tmp_path: Path) -> None:
    names = ["a" * 200, "/".join("a" * 100), "/".join(["ab"] * 80) + "c"]

    def seconds(pattern: str) -> float:
        (tmp_path / ".gitignore").write_text(pattern)
        files = read_patterns(tmp_path)
        return least_cpu_s(lambda: [is_ignored(tmp_path / name, False, files) for name in names])

    plain = seconds("*.txt")
    for pattern in ("*a*a*a*a*a*a*a*a*b", "**/a/" * 30 + "b", "*?" * 60 + "b", "*[ab]" * 40 + "z", "a*" * 300 + "z"):
        assert seconds(pattern) < 1000 * plain


def stars(n: int) -> str:
    return "\n".join(f"*{n}x*y{i}*z" for i in range(2000)) + "\n"


def test_all_ignore_files_of_a_folder_together_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file alone may be as large as is read: a hundred of them took minutes, nested ones hours."""
    monkeypatch.setattr(gitignore, "MOST_DIFFERENT", 3000)
    for n in range(3):
        (tmp_path / f"f{n}").mkdir()
        (tmp_path / f"f{n}" / ".gitignore").write_text(stars(n))
        (tmp_path / f"f{n}" / "doc.txt").write_text("text")
    found = find_sources([str(tmp_path)], recursive=True).documents
    obstacles = [source.obstacle for source in found]
    assert obstacles[0] is None
    assert all("more than 3,000 patterns" in str(obstacle) for obstacle in obstacles[1:])
    assert "f1/.gitignore" in str(obstacles[1])


def test_the_same_patterns_are_compiled_once_and_hold_for_few_folders_below(tmp_path: Path) -> None:
    """A thousand folders in each other with one ignore file of 2,000 lines: millions of patterns for each name."""
    folder = tmp_path
    for _ in range(6):
        (folder / ".gitignore").write_text(stars(0))
        (folder / "doc.txt").write_text("text")
        folder /= "f"
        folder.mkdir()
    found = find_sources([str(tmp_path)], recursive=True).documents
    assert [source.obstacle is None for source in found] == [True] * 4 + [False]
    assert "10,000 patterns hold here, the most is 8,000" in str(found[-1].obstacle)


def test_many_links_read_an_ignore_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each link had all ignore files on its way compiled again: ten thousand took hours."""
    (tmp_path / ".gitignore").write_text("secret.txt\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".gitignore").write_text("hidden.txt\n")
    for name in ("doc.txt", "secret.txt", "hidden.txt"):
        (tmp_path / "a" / name).write_text("text")
        for n in range(100):
            (tmp_path / f"{name}-{n}.txt").symlink_to(tmp_path / "a" / name)
    read: list[Path] = []
    real = gitignore.read_regular
    monkeypatch.setattr(gitignore, "read_regular", lambda path, *a, **k: read.append(path) or real(path, *a, **k))
    found = {Path(source.name).name for source in find_sources([str(tmp_path)], recursive=True).documents}
    assert found == {"doc.txt"} | {f"doc.txt-{n}.txt" for n in range(100)}
    assert len(read) == len(set(read)) == 2


def test_a_link_into_a_folder_whose_ignore_file_cannot_be_used_is_left_out(tmp_path: Path) -> None:
    """It was followed as if there were none: what that file leaves out may be secret."""
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / ".gitignore")
    (tmp_path / "a" / "secret.txt").write_text("text")
    (tmp_path / "link.txt").symlink_to(tmp_path / "a" / "secret.txt")
    found = find_sources([str(tmp_path)], recursive=True)
    assert [(Path(s.name).name, s.obstacle is None) for s in found.documents] == [("a", False)]
    assert found.left_out == 1
