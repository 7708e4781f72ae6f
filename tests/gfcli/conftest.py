"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from gfcli.app import run
from tests.conftest import SAMPLES

TEXT = (SAMPLES / "four-freedoms-1941.txt").read_text()[:3000]


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "doc.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def cache(document: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert run(["prefill", str(document), "-m", str(tiny_model), "-q"]) == 0
    capsys.readouterr()
    return document.with_suffix(".gfc")
