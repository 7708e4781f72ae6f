"""gf bench: records with their conditions, and nothing measured on a machine that computes wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import gfcache
import jsonschema
import pytest

from gfcli.app import run

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "bench.json").read_text())


@pytest.mark.parametrize(
    ("what", "arguments", "figure"),
    [
        ("prefill", ["--lengths", "40,80"], "tok_s"),
        ("ask", ["--lengths", "40,80"], "first_token_ms"),
        ("kernels", [], "us_per_token_layer"),
        ("load", [], "seconds"),
    ],
)
def test_records(what: str, arguments: list[str], figure: str, tiny_model: Path, tmp_path: Path, capsys) -> None:
    command = ["bench", what, "-m", str(tiny_model), "--repeats", "2", *arguments]
    assert run([*command, "--json", "-o", str(tmp_path / "record.json")]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, SCHEMA)
    assert found["what"] == what
    assert found["repeats"] == 2
    assert json.loads((tmp_path / "record.json").read_text()) == found
    for row in found["rows"]:
        assert 0 < row[figure]["min"] <= row[figure]["median"] <= row[figure]["max"]
    if arguments:
        assert [row["tokens"] for row in found["rows"]] == [40, 80]
    if what != "load":  # several seconds of start-up
        assert run(command) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == len(found["rows"])


def test_nothing_is_measured_when_a_check_fails(tiny_model: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(gfcache, "verify_cache", lambda path: None)
    assert run(["bench", "prefill", "-m", str(tiny_model), "--lengths", "40"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "nothing was measured: damaged copies are refused fails" in err


def test_lengths_must_be_numbers(tiny_model: Path, capsys) -> None:
    assert run(["bench", "ask", "-m", str(tiny_model), "--lengths", "40,x"]) == 2
    assert "--lengths is '40,x'" in capsys.readouterr().err
