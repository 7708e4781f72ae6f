"""gf bench methods: by formula, and measured with tiny models into a report that a second run leaves as it is."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gfcache
import jsonschema
import pytest
from gfcache.files.locks import output_lock

from gfcli.app import run
from tests.goldfinch.foreign.folders import write_folder
from tests.schemas import schema

FILES = ["cells.csv", "costs.csv", "index.html", "rows.jsonl", "table.txt"]


def test_methods_are_compared_by_formula(tmp_path: Path, capsys) -> None:
    assert run(["bench", "methods", "--arithmetic", "--lengths", "8192,32768"]) == 0
    out = capsys.readouterr().out
    assert "8,192 tokens" in out
    assert "32,768 tokens" in out
    line = next(line for line in out.splitlines() if line.startswith("GoldFinch") and "24 x 2048" in line)
    assert "258.0" in line.split()
    place = tmp_path / "methods.json"
    assert run(["bench", "methods", "--arithmetic", "--lengths", "8192", "--json", "-o", str(place)]) == 0
    shown = json.loads(capsys.readouterr().out)
    jsonschema.validate(shown, schema("methods"))
    assert json.loads(place.read_text()) == shown
    assert max(len(line) for line in out.splitlines()) < 190


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GF_DATA_DIR", raising=False)


@pytest.fixture
def line(tiny_model: Path, tmp_path: Path) -> list[str]:
    """Two methods and a task, with a tiny model."""
    tasks = ["--methods", "int8", "--tasks", "facts", "--lengths", "300", "--questions", "5"]
    return ["bench", "methods", "--models", str(tiny_model), *tasks, "-o", str(tmp_path / "report")]


def test_a_report(line: list[str], tmp_path: Path, capsys) -> None:
    folder = tmp_path / "report"
    assert run(line) == 0
    out, err = capsys.readouterr()
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == FILES
    assert out == (folder / "table.txt").read_text()
    assert "documents are made of a text of gf's own" in err
    assert "random weights" in out
    page = (folder / "index.html").read_text()
    assert f"-o {folder}" in page
    with (folder / "costs.csv").open() as stream:
        costs = {row["method"]: row for row in csv.DictReader(stream)}
    assert list(costs) == ["full", "int8"]
    assert float(costs["int8"]["rows_bytes"]) < float(costs["full"]["rows_bytes"])


def test_again_nothing_is_measured_and_the_report_is_the_same(line: list[str], tmp_path: Path, capsys) -> None:
    assert run(line) == 0
    capsys.readouterr()
    before = {name: (tmp_path / "report" / name).read_bytes() for name in FILES}
    assert run([*line, "-q"]) == 0
    assert capsys.readouterr().err == ""
    assert {name: (tmp_path / "report" / name).read_bytes() for name in FILES} == before


def test_a_report_of_nothing_is_a_report(line: list[str], tmp_path: Path) -> None:
    """Of a length that no document can be made of there is a page, which the same command takes for its own."""
    place = tmp_path / "report"
    short = [*line, "--lengths", "64", "--tasks", "needles-7", "-q"]
    assert run(short) == 0
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    assert before["rows.jsonl"] == b""
    assert run(short) == 0
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    refused = [*line, "--methods", "int9", "-o", str(tmp_path / "other")]
    assert run(refused) == 2
    assert not (tmp_path / "other").exists()


def test_an_interrupted_run_says_that_it_goes_on(line: list[str], tmp_path: Path, monkeypatch, capsys) -> None:
    from goldfinch.compare import run as module

    ask, asked = module.ask, list[str]()

    def interrupted(*arguments: Any) -> Any:
        asked.append(arguments[3].name)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return ask(*arguments)

    monkeypatch.setattr(module, "ask", interrupted)
    line[line.index("--questions") + 1] = "10"
    assert run(line) == 130
    assert "resume" in capsys.readouterr().err
    assert (
        len((tmp_path / "report" / "rows.jsonl").read_text().splitlines()) == 3
    )  # both methods of one document, one of the next
    assert run(line) == 0
    assert asked[4:] == ["int8"]


def test_damaged_rows_are_said_and_measured_again(line: list[str], tmp_path: Path, capsys) -> None:
    assert run(line) == 0
    rows = tmp_path / "report" / "rows.jsonl"
    first, *others = rows.read_text().splitlines()
    rows.write_text("\n".join(["\x1b[31m{}", first[:-20], *others]))
    capsys.readouterr()
    assert run(line) == 0
    err = capsys.readouterr().err
    assert "line 1 is passed over: it is not JSON" in err
    assert "line 2 is passed over" in err
    assert "\x1b" not in err
    assert len(rows.read_text().splitlines()) == 1 + len(others)


def test_as_json(line: list[str], capsys) -> None:
    assert run([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema("comparison"))
    assert [cell["method"] for cell in found["cells"]] == ["full", "int8"]


def test_a_model_of_others_beside_ours(tiny_model: Path, tmp_path: Path, capsys) -> None:
    """What it cannot do is said, what it can is measured."""
    folder = write_folder(tmp_path / "llama", max_position_embeddings=2048)
    assert run(["model", "import", str(folder), "-o", str(tmp_path / "imported")]) == 0
    names, models = "int8,h2o-0.5,expected-0.5,read-lexical", f"{tiny_model},{tmp_path / 'imported'}"
    tasks = ["--tasks", "facts,language", "--lengths", "300,5000", "--questions", "4", "--budget", "20s"]
    line = ["bench", "methods", "--models", models, "--methods", names, *tasks, "-o", str(tmp_path / "report")]
    assert run([*line, "--dtype", "float32"]) == 0
    out = capsys.readouterr().out
    assert "expected-0.5: the keys of imported know their positions" in out
    assert "read-lexical: the document is kept whole, and is read whole" in out
    assert "5,000 tokens: the model has 2,048 positions" in out
    with (tmp_path / "report" / "costs.csv").open() as stream:
        costs = [(row["model"], row["method"]) for row in csv.DictReader(stream) if row["tokens"] == "300"]
    assert [method for model, method in costs if model == "imported"] == ["full", "int8", "h2o-0.5"]
    assert [method for model, method in costs if model == "tiny"] == [
        "full", "int8", "h2o-0.5", "expected-0.5", "read-lexical",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--methods", "h2o"], 2, "a method is 'h2o'"), (["--tasks", "haystack"], 2, "a task is 'haystack'"),
        (["--lengths", "0"], 2, "--lengths"), (["--lengths", "9999k"], 2, "allowed: up to 1,048,576"),
        (["--methods", "int8,,"], 2, "expected names with commas"), (["--budget", "soon"], 2, "--budget is 'soon'"),
        (["--models", "nobody"], 4, "nobody"), (["--data", "/nowhere"], 2, "does not exist"),
    ],
)  # fmt: skip
def test_what_is_refused(more: list[str], code: int, words: str, line: list[str], tmp_path: Path, capsys) -> None:
    assert run([*line, *more]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert not list((tmp_path / "report").glob("*.html"))


def test_places_that_are_refused(line: list[str], tmp_path: Path, capsys) -> None:
    assert run(line[:-2]) == 2
    assert "a report needs a folder" in capsys.readouterr().err
    file = tmp_path / "file"
    file.write_text("mine")
    assert run([*line[:-1], str(file)]) == 2
    assert "a file, expected a folder" in capsys.readouterr().err
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("mine")
    assert run([*line[:-1], str(tmp_path / "site")]) == 2
    assert "exists and is no report" in capsys.readouterr().err
    assert (tmp_path / "site" / "index.html").read_text() == "mine"


def test_a_model_that_reads_no_text(imported: Callable[[str], Path], tmp_path: Path, capsys) -> None:
    place = str(imported("goldfinch_ratio2"))
    assert run(["bench", "methods", "--models", place, "-o", str(tmp_path / "report")]) == 2
    assert "has no tokenizer" in capsys.readouterr().err


def test_two_runs_do_not_share_a_folder(line: list[str], tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    with output_lock(tmp_path / "report" / "rows.jsonl"):
        done = subprocess.run([sys.executable, "-m", "gfcli", *line], capture_output=True, text=True, check=False)
    assert done.returncode == 9
    assert "rows.jsonl" in done.stderr


def test_a_full_disk_leaves_what_there_was(line: list[str], tmp_path: Path, monkeypatch, capsys) -> None:
    assert run(line) == 0
    before = (tmp_path / "report" / "rows.jsonl").read_bytes()
    capsys.readouterr()

    def full(*_: object, **__: object) -> None:
        raise gfcache.CacheWriteError(tmp_path / "report", OSError(28, "No space left on device"))

    monkeypatch.setattr("goldfinch.compare.rows.replacing_output", full)
    assert run([*line, "--seed", "1"]) == 8
    assert (tmp_path / "report" / "rows.jsonl").read_bytes() == before
