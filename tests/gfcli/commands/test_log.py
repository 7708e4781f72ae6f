"""gf log: off by default; what is kept of every way to ask; unreadable logs are told, not fatal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gfcli.app import run
from goldfinch.library.answer_log import log_file
from tests.gfcli.conftest import TEXT
from tests.schemas import schema


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run(["log", "--json", "-n", "100"]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema("log"))
    answers: list[dict[str, Any]] = found["answers"]
    return answers


def test_what_is_asked_is_kept_where_that_is_wanted(work: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "doc.txt").write_text(TEXT)
    (work / "q.txt").write_text("First?\nSecond?\n")
    asking = [
        ["ask", "doc.txt", "-n", "2", "Streamed?"], ["ask", "doc.txt", "-n", "2", "Whole?", "--no-stream"],
        ["ask", "doc.txt", "-n", "2", "Object?", "--json"], ["ask", "doc.txt", "-n", "2", "--questions", "q.txt"],
        ["ask", "-r", ".", "-n", "2", "Which world?"],
    ]  # fmt: skip
    assert run(asking[0]) == 0
    assert logged(capsys) == []
    assert not log_file().exists()
    assert run(["log"]) == 0
    assert "nothing is kept" in capsys.readouterr().err
    (work / "gf.toml").write_text("log = true\n")  # not for a project to say
    assert run(asking[0]) == 0
    assert logged(capsys) == []
    (work / "gf.toml").unlink()
    monkeypatch.setenv("GF_LOG", "1")
    for command in asking:
        assert run(command) == 0
    found = logged(capsys)
    names = ["Streamed?", "Whole?", "Object?", "First?", "Second?", "Which world?"]
    assert [row["question"] for row in found] == names
    assert {Path(row["document"]).name for row in found} == {"doc.txt"}
    assert all(row["model"] == "tiny" for row in found)
    assert run(["ask", "doc.txt", "-n", "2", "Object?", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == found[2]["answer"]
    assert run(["log", "--limit", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "  Object?"
    assert run(["log", "--clear"]) == 0
    assert logged(capsys) == []


@pytest.mark.usefixtures("work")
def test_a_log_that_cannot_be_written_is_a_warning(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("doc.txt").write_text(TEXT)
    log_file().mkdir(parents=True)
    monkeypatch.setenv("GF_LOG", "on")
    assert run(["ask", "doc.txt", "-n", "2", "What?"]) == 0
    assert "warning: the answer is not kept: " in capsys.readouterr().err
    assert run(["log"]) == 2
    assert "cannot be read" in capsys.readouterr().err
    monkeypatch.setenv("GF_LOG", "perhaps")
    assert run(["ask", "doc.txt", "-n", "2", "What?"]) == 2
    assert "GF_LOG: log is 'perhaps', allowed: true or false" in capsys.readouterr().err
