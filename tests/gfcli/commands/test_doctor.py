"""gf doctor: checks of this machine, and exit 10 when one fails."""

from __future__ import annotations

import json
from pathlib import Path

import gfcache
import jsonschema

from gfcli.app import run
from tests.schemas import schema


def test_doctor(tiny_model: Path, capsys, monkeypatch) -> None:
    assert run(["doctor", "-m", str(tiny_model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema("doctor"))
    assert found["ok"]
    assert len(found["checks"]) == 3
    assert found["kernels"]["compiled"]
    monkeypatch.setattr(gfcache, "verify_cache", lambda path: None)  # a reader that accepts anything
    assert run(["doctor", "-m", str(tiny_model)]) == 10
    assert "FAILS  damaged copies are refused" in capsys.readouterr().out
