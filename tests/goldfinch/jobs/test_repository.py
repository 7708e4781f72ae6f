"""What git ignores besides .gitignore is left out, as git itself would; git is asked here, and nowhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from goldfinch.jobs.sources import find_sources

NAMES = ("a.txt", "b.md", "c.log", "d.bak", "sub/a.txt", "sub/keep.log", "sub/x y.txt", "sub/deep/n.bak", "#e.txt")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "home" / ".config" / "git").mkdir(parents=True)
    work = tmp_path / "work"
    (work / ".git" / "info").mkdir(parents=True)
    (work / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (work / ".git" / "objects").mkdir()
    (work / ".git" / "refs").mkdir()
    for name in NAMES:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(f"{name}\n")
    return work


def found(folder: Path) -> set[str]:
    return {os.path.relpath(source.name, folder) for source in find_sources([str(folder)], recursive=True).documents}


def check_as_git(work: Path, expected: set[str]) -> None:
    assert found(work) == expected
    if shutil.which("git"):
        listed = subprocess.run(
            ["git", "-c", "core.quotePath=false", "ls-files", "-co", "--exclude-standard"],
            cwd=work, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert {name for name in listed.stdout.splitlines() if "/." not in f"/{name}"} == expected


def test_exclude_of_a_repository(tree: Path) -> None:
    (tree / ".git" / "info" / "exclude").write_bytes(b"\xef\xbb\xbf*.log\n/a.txt\n# no pattern\n")
    check_as_git(tree, set(NAMES) - {"a.txt", "c.log", "sub/keep.log"})
    (tree / "sub" / ".gitignore").write_text("!keep.log\n")  # what lies nearer decides
    check_as_git(tree, set(NAMES) - {"a.txt", "c.log"})
    assert found(tree / "sub") == {"a.txt", "keep.log", "x y.txt", "deep/n.bak"}  # from the folder inside, too


@pytest.mark.parametrize("place", ["~/.gitconfig", "~/.config/git/config", ".git/config", "GIT_CONFIG_GLOBAL"])
def test_excludes_file_of_the_configuration(tree: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path(os.environ["HOME"])
    (home / "my ignore").write_text("*.bak\nsub/x*\n")
    (home / ".config" / "git" / "ignore").write_text("*.md\n")
    check_as_git(tree, set(NAMES) - {"b.md"})  # where none is named
    config = tree / place if place.startswith(".git/") else Path(place).expanduser()
    if place == "GIT_CONFIG_GLOBAL":
        config = home / "another"
        monkeypatch.setenv(place, str(config))
    config.write_text(
        '[user]\n\texcludesFile = /none\n[Core "sub"]\nexcludesfile = /none\n'
        '[core] # words\n\tpager = less ; excludesfile = /none\n\tExcludesFile = \\\n "~/my ignore" ; mine\n'
    )
    check_as_git(tree, set(NAMES) - {"d.bak", "sub/deep/n.bak", "sub/x y.txt"})
    (tree / ".git" / "info" / "exclude").write_text("!d.bak\n")
    check_as_git(tree, set(NAMES) - {"sub/deep/n.bak", "sub/x y.txt"})


def test_a_working_tree_that_is_linked_has_the_exclude_of_its_repository(tree: Path, tmp_path: Path) -> None:
    linked, own = tmp_path / "linked", tree / ".git" / "worktrees" / "linked"
    own.mkdir(parents=True)
    linked.mkdir()
    (own / "commondir").write_text("../..\n")
    (tree / ".git" / "info" / "exclude").write_text("*.log\n")
    (linked / ".git").write_text(f"gitdir: {own}\n")
    for name in ("a.txt", "c.log"):
        (linked / name).write_text(name)
    assert found(linked) == {"a.txt"}


def test_what_a_stranger_may_have_put_there_takes_neither_time_nor_files(tree: Path) -> None:
    """A pipe, a device, endless or broken files: nothing waits, and what may hide secrets fails."""
    config = tree / ".git" / "config"
    for text in (
        "[core]\nexcludesfile = /dev/zero\n",
        "[core]\nexcludesfile = /none/at/all\n",
        "[core\n" * 9999,
        "\\\n" * 9999,
    ):
        config.write_text(text)
        sources = find_sources([str(tree)], recursive=True)
        if "zero" in text:
            assert [type(source.obstacle) for source in sources.documents] != [type(None)]
        else:
            assert len(sources.documents) == len(NAMES)
    config.unlink()
    os.mkfifo(config)
    os.mkfifo(tree / ".git" / "commondir")
    assert len(find_sources([str(tree)], recursive=True).documents) == len(NAMES)
    (tree / ".git" / "info" / "exclude").write_text("a\n" * (1 << 20))
    failed = find_sources([str(tree)], recursive=True).documents
    assert [source.obstacle is not None for source in failed] == [True]
    shutil.rmtree(tree / ".git")
    (tree / ".git").write_text("gitdir: " + "x" * 100_000)
    assert len(find_sources([str(tree)], recursive=True).documents) == len(NAMES)
