"""gf ask --read: what of a document is read, in JSON, in words, in settings, with citations and for many questions."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

import goldfinch
from gfcli.app import run
from goldfinch.engine.reading import DocumentReader
from goldfinch.policies.base import BY_WORDS
from goldfinch.policies.named import ALL, ATTENTION, AUTO, POLICIES
from tests.gfcli.conftest import TEXT
from tests.schemas import schema

PLACES = ("Aberdeen", "Bristol", "Cardiff", "Dundee", "Exeter", "Falmouth")
FILLER = "It lies by the sea and has many streets, full of people on most days. " * 9


@pytest.fixture
def place(work: Path) -> Path:
    """A folder with a document of six blocks and its cache."""
    Path("towns.txt").write_text("\n\n".join(f"{p} is known for the {p[::-1].lower()} trade. {FILLER}" for p in PLACES))
    assert run(["prefill", "towns.txt", "-q"]) == 0
    return work


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    capsys.readouterr()
    assert run(["ask", "--cache", "towns.gfc", "What is Dundee known for?", "-n", "4", "--json", *arguments]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema("ask"))
    return found


def test_the_names_are_those_that_are_implemented() -> None:
    assert (AUTO, ALL, *BY_WORDS, ATTENTION) == POLICIES


@pytest.mark.usefixtures("place")
def test_json_says_what_was_read(capsys) -> None:
    read = asked(capsys, "--read", "lexical")["read"]
    assert read["policy"] == "lexical"
    assert [(b["document"], b["first_line"], b["last_line"]) for b in read["blocks"]] == [("towns.txt", 7, 7)]
    whole = asked(capsys, "--read", "all")
    assert whole["read"]["blocks"] == []
    assert whole["read"]["tokens_attended"] == whole["document_tokens_cached"] > 3 * read["tokens_attended"]
    assert len(asked(capsys, "--read", "lexical", "--read-blocks", "3")["read"]["blocks"]) == 3


def test_settings_say_it_too(place: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "gf.toml").write_text('read = "lexical"\nread_blocks = 2\n')
    assert len(asked(capsys)["read"]["blocks"]) == 2
    monkeypatch.setenv("GF_READ", "all")
    assert asked(capsys)["read"]["policy"] == "all"
    assert asked(capsys, "--read", "lexical")["read"]["policy"] == "lexical"
    monkeypatch.setenv("GF_READ", "some")
    assert run(["ask", "--cache", "towns.gfc", "What?"]) == 2
    assert "GF_READ: read is 'some', allowed: auto, all, lexical, hybrid, attention" in capsys.readouterr().err


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--read", "best"], "--read is 'best', allowed: auto, all, lexical, hybrid, attention"),
        (["--read-blocks", "65"], "--read-blocks is 65, allowed: 1 to 64"),
        (["--read-blocks", "0"], "--read-blocks is 0, allowed: 1 to 64"),
    ],
)
def test_what_is_not_allowed(capsys, arguments: list[str], message: str) -> None:
    assert run(["ask", "--cache", "towns.gfc", "What?", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("place")
def test_attention_reads_parts_of_its_own(capsys) -> None:
    found = asked(capsys, "--read", "attention", "--read-blocks", "2", "--cite", "--explain")
    assert found["read"]["policy"] == "attention"
    assert len(found["read"]["blocks"]) == 2
    assert found["read"]["tokens_attended"] < 300 < found["document_tokens_cached"]
    assert [row["read"] for row in found["explain"]["reading"]["candidates"]][:3] == [True, True, False]
    assert len(found["citations"]) == 2


@pytest.mark.usefixtures("place")
def test_citations_name_the_block_and_the_line_in_it(capsys) -> None:
    citation = asked(capsys, "--read", "lexical", "--cite")["citations"][0]
    assert (citation["first_line"], citation["last_line"], citation["line"]) == (7, 7, 7)
    line = Path("towns.txt").read_text().split("\n")[6]
    assert citation["text"].removeprefix("...").removesuffix("...") in line
    assert len(citation["text"]) <= 160 < len(line)
    assert 1 <= citation["column"] <= len(line)
    assert "passage" not in citation
    passage = asked(capsys, "--read", "lexical", "--passage")["citations"][0]["passage"]
    assert passage.strip() == line.strip()
    asking = ["ask", "--cache", "towns.gfc", "What is Dundee known for?", "-n", "4", "--read", "lexical", "--passage"]
    assert run(asking) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-2].startswith(f"  [line 7, character {citation['column']}] ")
    assert out[-1].strip() == line.strip()


@pytest.mark.usefixtures("place")
def test_explain_says_why_and_what_was_close(capsys) -> None:
    found = asked(capsys, "--read", "lexical", "--explain")["explain"]["reading"]
    assert found["policy"] == "lexical"
    assert [row["read"] for row in found["candidates"]] == [True, False, False, False]
    assert found["candidates"][0]["words"][0] == "dunde"
    assert run(["ask", "--cache", "towns.gfc", "What is Dundee known for?", "--read", "lexical", "--explain"]) == 0
    words = capsys.readouterr().err
    assert "read: line 7, lexical score" in words
    assert "words in common: dunde" in words
    assert run(["ask", "--cache", "towns.gfc", "What is Dundee known for?", "--read", "all", "--explain"]) == 0
    assert "read: the whole document" in capsys.readouterr().err


def test_unlikely_answers_are_withheld(place: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    given = asked(capsys, "--read", "lexical")
    assert given["withheld"] is None
    assert 0 < given["likelihood"] < 1
    assert given["confidence"] is None
    assert "nothing was calibrated" in given["confidence_reason"]
    found = asked(capsys, "--read", "lexical", "--least-likelihood", "1", "--cite")
    assert (found["answer"], found["withheld"], found["citations"]) == ("Not stated.", given["answer"], [])
    (place / "gf.toml").write_text("least_likelihood = 1.0\n")  # of a stranger, who would silence every answer
    assert asked(capsys)["withheld"] is None
    (place / "gf.toml").unlink()
    monkeypatch.setenv("GF_LEAST_LIKELIHOOD", "1")
    assert asked(capsys)["answer"] == "Not stated."
    assert asked(capsys, "--least-likelihood", "0")["withheld"] is None
    monkeypatch.setenv("GF_LEAST_LIKELIHOOD", "2")
    assert run(["ask", "--cache", "towns.gfc", "What?"]) == 2
    assert "GF_LEAST_LIKELIHOOD: least_likelihood is '2', allowed: 0 to 1" in capsys.readouterr().err
    monkeypatch.delenv("GF_LEAST_LIKELIHOOD")
    assert run(["ask", "--cache", "towns.gfc", "What?", "--least-likelihood", "nan"]) == 2
    assert "--least-likelihood is nan, allowed: 0 to 1" in capsys.readouterr().err


@pytest.mark.usefixtures("place")
def test_answers_that_are_rarely_right_are_said_to_be_unsure(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["ask", "--cache", "towns.gfc", "What is Dundee known for?", "-n", "4", "--read", "lexical"]

    def said(*arguments: str) -> str:
        capsys.readouterr()
        assert run([*command, *arguments]) == 0
        return capsys.readouterr().err

    assert said() == ""  # nothing was measured for this model
    monkeypatch.setattr(DocumentReader, "confidence", lambda *_: (0.1234, None))
    assert said() == said("--no-stream") == "(unsure: of 100 such answers some 12 are right)\n"
    assert asked(capsys, "--read", "lexical")["confidence"] == 0.1234
    assert said("--json") == said("-q") == said("--least-likelihood", "1") == said("--raw") == ""
    monkeypatch.setenv("GF_UNSURE_BELOW", "0.1")
    assert said() == ""


@pytest.mark.usefixtures("place")
def test_many_questions_each_read_their_own() -> None:
    Path("q.txt").write_text("".join(f"What is {p} known for?\n" for p in PLACES))
    arguments = ["ask", "--cache", "towns.gfc", "--questions", "q.txt", "--jsonl", "-o", "a.jsonl", "-n", "4", "-q"]
    assert run([*arguments, "--read", "lexical"]) == 0
    rows = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    for row in rows:
        jsonschema.validate(row, schema("answers"))
    assert [row["read"]["blocks"][0]["first_line"] for row in rows] == [1, 3, 5, 7, 9, 11]
    # Other reading, other answers: none of those in the file is taken for one of them.
    assert run([*arguments, "--read", "all"]) == 0
    rows = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    assert {row["read"]["policy"] for row in rows[-len(PLACES) :]} == {"all"}


def test_asking_writes_nothing(place: Path, capsys) -> None:
    before = {path: path.read_bytes() for path in place.iterdir() if path.is_file()}
    asked(capsys, "--read", "lexical")
    assert {path: path.read_bytes() for path in place.iterdir() if path.is_file()} == before


def test_quotes_are_words_of_the_document_with_their_place(place: Path, capsys) -> None:
    found = asked(capsys, "--read", "lexical", "--quote", "--temperature", "2", "--seed", "1")
    quote, answer = found["quote"], found["answer"]
    text = (place / "towns.txt").read_text()
    assert answer in text or "Not stated.".startswith(str(answer))
    assert (quote is None) == (answer == "" or "Not stated.".startswith(str(answer)))
    arguments = ["ask", "--cache", "towns.gfc", "What is Dundee known for?", "-n", "4", "--read", "lexical", "--quote"]
    assert run([*arguments, "--temperature", "2", "--seed", "1"]) == 0
    out = capsys.readouterr().out
    if quote is not None:
        line = text.split("\n")[quote["line"] - 1]
        assert line[quote["first_character"] - 1 : quote["last_character"]] == quote["text"] == answer
        assert (
            out
            == f"{answer}\n  [line {quote['line']}, characters {quote['first_character']}-{quote['last_character']}]\n"
        )
    assert asked(capsys, "--read", "lexical")["quote"] is None
    assert run(["ask", "--cache", "towns.gfc", "It", "--raw", "--quote"]) == 2
    assert "--quote and --raw do not go together" in capsys.readouterr().err


def test_a_long_document_of_which_blocks_are_read_gets_none(tmp_path, tiny_model, capsys, monkeypatch) -> None:
    fingerprint = goldfinch.load_model(tiny_model).card.model_fingerprint
    row = {"least_tokens": 0, "policy": "lexical", "blocks": 1}
    (tmp_path / f"{fingerprint}.json").write_text(json.dumps({"rows": [row]}))
    monkeypatch.setattr("goldfinch.policies.measured.RECORDS", tmp_path)
    (tmp_path / "long.txt").write_text(TEXT)
    for command in (["prefill"], ["prefill", "--library"], ["ask", "-n", "1"]):
        question = ["Who?"] if command[0] == "ask" else []
        assert run([*command, "-m", str(tiny_model), str(tmp_path / "long.txt"), *question]) == 0
        assert "trained on" not in capsys.readouterr().err


def test_cells_of_a_cited_row_stand_apart(tmp_path, tiny_model, capsys) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("".join(f"place {n}\tblue\t{n} euro\n" for n in range(40)))
    assert run(["ask", "-m", str(tiny_model), str(path), "What is the price?", "--cite", "-n", "4", "-q"]) == 0
    cited = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  [line")]
    assert cited
    assert all(" blue " in line and "?" not in line for line in cited)
