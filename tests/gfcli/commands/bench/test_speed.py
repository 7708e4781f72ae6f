"""gf bench: records with their conditions, and nothing measured on a machine that computes wrongly."""

from __future__ import annotations

import json
import os
from pathlib import Path

import gfcache
import jsonschema
import pytest

from gfcli.app import run
from tests.schemas import schema


@pytest.mark.parametrize(
    ("what", "arguments", "figure"),
    [
        ("prefill", ["--lengths", "40,80"], "tok_s"),
        ("ask", ["--lengths", "40,80"], "first_token_ms"),
        ("ask", ["--lengths", "40,80"], "first_token_rebuilt_ms"),
        ("kernels", [], "us_per_token_layer"),
        ("load", [], "seconds"),
    ],
)
def test_records(what: str, arguments: list[str], figure: str, tiny_model: Path, tmp_path: Path, capsys) -> None:
    command = ["bench", what, "-m", str(tiny_model), "--repeats", "2", *arguments]
    assert run([*command, "--json", "-o", str(tmp_path / "record.json")]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema("bench"))
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


def test_a_record_without_a_place_is_not_measured_at_all(tiny_model: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    from goldfinch.evaluate import tasks
    from goldfinch.measure import speed

    def measured(*_: object, **__: object) -> None:
        raise AssertionError

    for module, name in ((speed, "measure_prefill"), (tasks, "evaluate")):
        monkeypatch.setattr(module, name, measured)
    for command in (["bench", "prefill"], ["eval", "--data", str(tmp_path)]):
        for output, words in ((tmp_path / "no" / "x.json", "does not exist"), (tmp_path, "is a directory")):
            assert run([*command, "-m", str(tiny_model), "-o", str(output)]) == 2
            assert words in capsys.readouterr().err


def test_a_record_that_cannot_be_written_is_printed(tiny_model: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    from goldfinch.evaluate import tasks
    from goldfinch.measure import speed

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(speed, "measure_prefill", lambda *_: {"rows": []})
    monkeypatch.setattr(tasks, "evaluate", lambda *_, **__: {"rows": []})
    monkeypatch.setattr(os, "fsync", full)  # where a full disk may show first
    for command in (["bench", "prefill", "--json"], ["eval", "--data", str(tmp_path)]):
        assert run([*command, "-m", str(tiny_model), "-o", str(tmp_path / "x.json")]) == 8
        assert json.loads(capsys.readouterr().out) == {"rows": []}


def test_codecs_of_ones_own_documents(tiny_model: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    from gfcache import Coding

    from goldfinch.measure import codec_rates

    few = (Coding("int8", "raw"), Coding("step2", "raw"), Coding("raw", "int8"), Coding("step2", "int8"))
    measure = codec_rates.measure_codecs
    monkeypatch.setattr(
        codec_rates, "measure_codecs", lambda model, documents, report: measure(model, documents, few, report)
    )
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"{name}. " + "All that is stated here is stated once. " * 20)
    line = ["bench", "codecs", str(tmp_path / "a.txt"), str(tmp_path / "b.txt"), "-m", str(tiny_model)]
    assert run([*line, "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    jsonschema.validate(found, schema("bench"))
    assert found["documents"] == 2
    assert err.count("without codecs") == 2
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == [f"{c.rows}, {c.state}" for c in few]
    assert rows["int8, raw"]["document_kl"] < rows["step2, raw"]["document_kl"]
    assert rows["int8, raw"]["bits_per_value"] > 2 * rows["step2, raw"]["bits_per_value"]
    assert rows["raw, int8"]["state_share"] < 0.4
    assert rows["step2, int8"]["file_share"] < rows["raw, int8"]["file_share"] < 1
    plot = tmp_path / "codecs.png"
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        assert run([*line, "--plot", str(plot)]) == 2
        assert "matplotlib" in capsys.readouterr().err
    else:
        assert run([*line, "--plot", str(plot)]) == 0
        assert plot.read_bytes().startswith(b"\x89PNG")
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 1 + len(few)
        assert lines[0].startswith("KEYS")
