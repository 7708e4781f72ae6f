"""A folder of three documents of different lengths, each with its cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from gfcli.app import run
from tests.conftest import SAMPLES

TEXT = (SAMPLES / "four-freedoms-1941.txt").read_text()


@pytest.fixture
def folder(tmp_path: Path, named_model: str, capsys: pytest.CaptureFixture[str], monkeypatch) -> Path:
    """Three documents with their caches; the model is found by its fingerprint."""
    work = tmp_path / "work"
    work.mkdir()
    for name, length in (("a", 5000), ("b", 2500), ("c", 800)):
        (work / f"{name}.txt").write_text(TEXT[:length])
        assert run(["prefill", str(work / f"{name}.txt"), "-m", named_model, "-q", "--checkpoints", "512"]) == 0
    monkeypatch.chdir(work)
    capsys.readouterr()
    return work
