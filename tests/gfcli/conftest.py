"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from gfcli.app import run
from tests.conftest import SAMPLES
from tests.gfcli.commands.batch_tree import tree as tree
from tests.gfcli.commands.three_caches import folder as folder
from tests.gfcli.library_place import place as place

TEXT = (SAMPLES / "four-freedoms-1941.txt").read_text()[:3000]


@pytest.fixture
def named_model(tmp_path: Path, tiny_model: Path) -> str:
    """A name of the tiny model, in the user's folder of models."""
    models = tmp_path / "user-models"
    models.mkdir()
    (models / "tiny").symlink_to(tiny_model)
    return "tiny"


@pytest.fixture
def work(tmp_path: Path, named_model: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder; the tiny model is the one of the settings."""
    monkeypatch.setenv("GF_MODEL", named_model)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


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
