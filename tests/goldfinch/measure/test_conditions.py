"""The commit of a record says whether the code was that of the commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from goldfinch.measure.conditions import RECORDS, git_commit


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One commit of a file and a record."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("code.py", f"{RECORDS}/speed.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1\n")
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "Begin"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "is_dirty"),
    [("code.py", True), ("new.txt", False), (f"{RECORDS}/speed.json", False)],
)
def test_changed_code_is_dirty_and_a_grown_record_is_not(checkout: Path, changed: str, is_dirty: bool) -> None:
    """The second row that a bench adds to a record was of a "-dirty" commit."""
    clean = git_commit(checkout)
    assert clean is not None
    assert clean.isalnum()
    (checkout / changed).write_text("2\n")
    for folder in (checkout, checkout / RECORDS):
        assert git_commit(folder) == clean + ("-dirty" if is_dirty else "")


def test_outside_of_git_there_is_no_commit(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
