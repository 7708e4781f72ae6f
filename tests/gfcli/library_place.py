"""A folder with documents and a library of its own, and its commands in JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gfcli.app import run
from tests.conftest import SAMPLES
from tests.schemas import schema

TEXT = (SAMPLES / "four-freedoms-1941.txt").read_text()


@pytest.fixture
def place(work: Path) -> Path:
    """A folder with a document; the tiny model is the one of the settings."""
    (work / "doc.txt").write_text(TEXT[:3000])
    return work


def ask(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run(["ask", "-n", "4", "--json", *arguments]) == code
    out = capsys.readouterr().out
    if code:
        assert out == ""
        return None
    found = json.loads(out)
    jsonschema.validate(found, schema("ask"))
    return found


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run(["cache", "ls", "--json", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema("cache-ls"))
    return found["caches"]
