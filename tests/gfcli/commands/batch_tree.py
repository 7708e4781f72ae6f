"""A tree of documents for tests of batches, and what gf prefill says about them."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from gfcli.app import run
from tests.conftest import SAMPLES
from tests.schemas import schema

TEXT = (SAMPLES / "four-freedoms-1941.txt").read_text()


@pytest.fixture
def tree(work: Path) -> Path:
    """A folder of documents, some ignored, hidden or no text."""
    for name in ("docs/a.txt", "docs/b.md", "docs/sub/c.txt", "docs/sub/deep/d.txt", "docs/build/e.txt", "docs/x.log",
                 "docs/sub/keep.log", "docs/.hidden/f.txt", "docs/sub/g.tmp"):  # fmt: skip
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(name + "\n" + TEXT[:700])
    (work / "docs/.gitignore").write_text("*.log\n/build/\n")
    (work / "docs/sub/.gitignore").write_text("!keep.log\n*.tmp\n")
    (work / "docs/picture.png").write_bytes(b"\x89PNG\0\0\0")
    (work / "docs/page.ps").write_text("%!PS-Adobe-3.0\n")
    (work / "docs/empty.txt").write_text("")
    (work / "docs/loop").symlink_to(work / "docs")
    return work


def below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def statuses(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, str]:
    capsys.readouterr()
    assert run(["prefill", *arguments, "--jsonl"]) == code
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for row in rows:
        jsonschema.validate(row, schema("prefill"))
    return {row["source"]: row["status"] for row in rows}
