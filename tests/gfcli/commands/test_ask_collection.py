"""One question to many documents, and gf search: a folder, the library, cache files; places, failures, exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gfcache
import jsonschema
import pytest

from gfcli.app import run
from gfcli.support.cache_files import are_several
from goldfinch.library import known
from tests.laws.test_start_up import loaded_by
from tests.schemas import schema

TRADES = {"Aberdeen": "granite", "Bristol": "tobacco", "Cardiff": "coal", "Dundee": "jute"}
FILLER = "It lies by the sea and has many streets, full of people on most days. " * 9


@pytest.fixture
def kb(work: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder of four documents; nothing is cached yet."""
    (work / "kb").mkdir()
    for place, trade in TRADES.items():
        text = f"{place} is a town. {FILLER}\n\nIts people trade in {trade}, on Mondays. {FILLER}\n"
        (work / "kb" / f"{place}.txt").write_text(text)
    capsys.readouterr()
    return work / "kb"


def asked(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run(["ask", "-n", "3", "--json", *arguments]) == code
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema("ask-many"))
    return found["answers"]


def searched(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run(["search", "--json", *arguments]) == code
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema("search"))
    return found["places"]


@pytest.mark.usefixtures("kb")
def test_a_folder_is_prefilled_and_asked(capsys) -> None:
    for place, trade in TRADES.items():
        (answer,) = asked(capsys, "-r", "kb", f"Who trades in {trade}?")
        assert answer["document"] == f"kb/{place}.txt"
        block = {"document": f"kb/{place}.txt", "first_line": 3, "last_line": 3}
        assert [{k: b[k] for k in block} for b in answer["read"]["blocks"]] == [block]
        assert answer["read"]["tokens_attended"] < answer["document_tokens_cached"]
        assert answer["document_tokens_computed"] == 0
    assert run(["ask", "-r", "kb", "Who trades in coal?", "-n", "2", "--require-cached"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("\n  [kb/Cardiff.txt, line 3]\n")
    assert "tokens" not in err


@pytest.mark.usefixtures("kb")
def test_a_folder_asked_again_reads_what_has_changed(kb: Path, capsys) -> None:
    asked(capsys, "-r", "kb", "Who trades in coal?")
    (kb / "Cardiff.txt").write_text((kb / "Cardiff.txt").read_text().replace("coal", "slate"))
    (kb / "Dundee.txt").unlink()
    assert run(["ask", "-r", "kb", "Who trades in slate?", "--require-cached"]) == 10
    assert "kb/Cardiff.txt" in capsys.readouterr().err
    assert asked(capsys, "-r", "kb", "Who trades in slate?")[0]["document"] == "kb/Cardiff.txt"
    answers = asked(capsys, "-r", "kb", "Which town trades?", "--top", "9")
    assert {Path(a["document"]).stem for a in answers} == {"Aberdeen", "Bristol", "Cardiff"}


def test_the_library_is_asked(kb: Path, capsys) -> None:
    assert run(["prefill", "--library", "-r", "kb", "-q"]) == 0
    (answer,) = asked(capsys, "--library", "Who trades in jute?")
    assert answer["document"] == str(kb / "Dundee.txt")
    assert Path(answer["cache"]).is_file()
    answers = asked(capsys, "--library", "--top", "2", "--filter", "name!=Dundee.txt", "Which town trades in jute?")
    assert len(answers) == len({a["document"] for a in answers} - {str(kb / "Dundee.txt")}) == 2
    assert run(["cache", "ls", "--json"]) == 0
    hits = {row["source_name"]: row["hits"] for row in json.loads(capsys.readouterr().out)["caches"]}
    assert hits["Dundee.txt"] == 1
    assert run(["cache", "rm", "-y", "kb/Dundee.txt"]) == 0
    assert asked(capsys, "--library", "Who trades in jute or coal?")[0]["document"] == str(kb / "Cardiff.txt")


def test_cache_files_are_asked(kb: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["prefill", "-r", "kb", "-q"]) == 0
    before = sorted(path.name for path in kb.iterdir())
    (answer,) = asked(capsys, "--cache", "kb/*.gfc", "Who trades in granite?")
    assert (answer["document"], answer["cache"]) == (str(kb / "Aberdeen.txt"), "kb/Aberdeen.gfc")
    answers = asked(capsys, "--cache", "kb/Bristol.gfc", "--cache", "kb/Dundee.gfc", "--top", "5", "Which town?")
    assert len(answers) == 2
    assert len(asked(capsys, "--cache", "kb/Ab*.gfc", "--cite", "Which town?")) == 1
    assert sorted(path.name for path in kb.iterdir()) == before
    monkeypatch.setattr("sys.stdin", open("kb/none", "w+"))  # noqa: SIM115
    sys.stdin.write("Who trades in coal?")
    sys.stdin.seek(0)
    with sys.stdin:
        assert asked(capsys, "--cache", "kb/*.gfc")[0]["document"] == str(kb / "Cardiff.txt")


@pytest.mark.usefixtures("kb")
def test_a_cache_that_nobody_knows_is_compared_with_its_document(capsys) -> None:
    answer = asked(capsys, "-r", "kb", "Who trades in coal?")[0]
    with gfcache.read_cache(answer["cache"]) as file:
        digest = file.header.digest
    known.forget(digest)
    assert asked(capsys, "-r", "kb", "Who trades in coal?") != []
    assert known.how_known(digest) == known.COMPARED


@pytest.mark.usefixtures("kb")
def test_what_is_read_follows_the_options(capsys) -> None:
    question = ["-r", "kb", "Who trades in jute by the sea?"]
    assert asked(capsys, *question, "--read", "lexical")[0]["read"]["policy"] == "lexical"
    assert len(asked(capsys, *question, "--read-blocks", "2")[0]["read"]["blocks"]) == 2
    whole = asked(capsys, *question, "--read", "all")[0]
    assert whole["read"]["tokens_attended"] == whole["document_tokens_cached"]
    explained = asked(capsys, *question, "--explain")[0]["explain"]
    assert [c["read"] for c in explained["reading"]["candidates"]] == [True]
    assert "jute" in explained["reading"]["candidates"][0]["words"]


def test_what_cannot_be_asked_is_named_and_the_others_answer(kb: Path, capsys, other_model: Path) -> None:
    assert run(["prefill", "-r", "kb", "-q"]) == 0
    (kb / "Bristol.gfc").write_bytes(b"no cache")
    assert run(["prefill", "kb/Dundee.txt", "-m", str(other_model), "--force", "-q"]) == 0
    capsys.readouterr()
    assert run(["ask", "--cache", "kb/*.gfc", "-n", "2", "--top", "9", "Which town trades in jute?"]) == 3
    out, err = capsys.readouterr()
    assert sum(line.startswith("  [") for line in out.splitlines()) == 2
    assert err.count("error: kb/Bristol.gfc") == 1
    assert "Dundee" in err
    assert "no model here made this cache" in err
    assert run(["ask", "--cache", "kb/Bris*.gfc", "Which town?"]) == 3


def test_a_document_that_cannot_be_read_is_named(kb: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goldfinch.text.documents.MOST_DOCUMENT_BYTES", 10_000)
    (kb / "bad.txt").write_bytes(b"words " * 2000)
    answers = asked(capsys, "-r", "kb", "Who trades in jute?", code=3)
    assert answers[0]["document"] == "kb/Dundee.txt"


@pytest.mark.usefixtures("kb")
def test_search_needs_no_model(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["search", "coal"]) == 4
    assert "the library is empty" in capsys.readouterr().err
    assert run(["search", "-r", "kb", "coal"]) == 4
    assert "4 of 4 documents are not cached" in capsys.readouterr().err
    assert run(["prefill", "--library", "-r", "kb", "-q"]) == 0
    monkeypatch.setattr("goldfinch.weights.loading.load_model", lambda *a, **b: pytest.fail("a model"))
    place = searched(capsys, "-r", "kb", "trade in coal")[0]
    assert (place["document"], place["first_line"], place["last_line"]) == ("kb/Cardiff.txt", 3, 3)
    assert place["snippet"] == "Its people trade in coal, on Mondays."
    assert len(searched(capsys, "people of the sea", "-n", "3")) == 3
    assert searched(capsys, "zyzzyva") == []
    capsys.readouterr()
    assert run(["search", "zyzzyva"]) == 4
    assert "none of these words is in the 4 documents searched" in capsys.readouterr().err
    assert run(["search", "jute", "-n", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(str(Path.cwd() / "kb" / "Dundee.txt, line 3, score "))
    assert lines[1] == "    Its people trade in jute, on Mondays."
    assert run(["search", "sea", "--jsonl", "-n", "2"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for row in rows:
        assert row.pop("schema_version") == 1
    jsonschema.validate(rows, schema("search")["properties"]["places"])


def test_search_and_asking_find_the_same(kb: Path, capsys) -> None:
    assert run(["prefill", "-r", "kb", "-q"]) == 0
    place = searched(capsys, "--cache", "kb/*.gfc", "Who trades in granite?")[0]
    block = asked(capsys, "--cache", "kb/*.gfc", "Who trades in granite?")[0]["read"]["blocks"][0]
    assert block == {key: place[key] for key in block}
    assert str(kb) in place["document"]


def test_search_loads_no_torch() -> None:
    assert "torch" not in loaded_by("import gfcli.commands.search, gfcli.support.collection, goldfinch.library.find")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ask", "-r"], "-r without a folder"),
        (["ask", "kb", "What?"], 'gf ask -r kb "QUESTION"'),
        (["ask", "-r", "kb", "--library", "What?"], "do not go together"),
        (["ask", "--library", "--cache", "x.gfc", "What?"], "do not go together"),
        (["ask", "--filter", "tag=a", "kb/Bristol.txt", "What?"], "--filter belongs to --library"),
        (["ask", "--top", "3", "kb/Bristol.txt", "What?"], "--top belongs to several documents"),
        (["ask", "--library", "What?", "Who?"], "expected one question"),
        (["ask", "--library", "--raw", "What?"], "--raw with several documents"),
        (["ask", "--library", "--questions", "q.txt"], "--questions with -r or --library"),
        (["ask", "--library", " "], "the question is empty"),
        (["search", "coal", "trade"], "one search at a time"),
        (["search", "-r", "kb"], "-r takes a folder and the words"),
        (["search", " "], "no words to look for"),
        (["search", "--filter", "tag=a", "--cache", "x.gfc", "coal"], "--filter belongs to --library"),
    ],
)
@pytest.mark.usefixtures("kb")
def test_what_does_not_go_together(arguments: list[str], says: str, capsys) -> None:
    assert run(arguments) == 2
    assert says in capsys.readouterr().err


@pytest.mark.usefixtures("kb")
def test_nothing_to_ask(capsys) -> None:
    assert run(["ask", "--library", "What?"]) == 4
    assert "the library is empty" in capsys.readouterr().err
    assert run(["prefill", "--library", "kb/Bristol.txt", "-q"]) == 0
    assert run(["ask", "--library", "--filter", "tag=none", "What?"]) == 4
    assert "no cache of the library meets the conditions" in capsys.readouterr().err
    assert run(["ask", "--library", "Zyzzyva?"]) == 4
    assert "no word of the question is in 1 document\n" in capsys.readouterr().err


def test_what_means_several(kb: Path) -> None:
    assert not are_several(["kb/a.gfc"])
    assert are_several(["kb/*.gfc"])
    assert are_several(["a.gfc", "b.gfc"])
    (kb / "odd[1].gfc").write_text("")
    assert not are_several(["kb/odd[1].gfc"])


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--exclude", "Car*"], {"Aberdeen", "Bristol", "Dundee"}),
        (["--include", "[AB]*"], {"Aberdeen", "Bristol"}),
        (["-e", "md"], {"Cardiff"}),
    ],
)
def test_a_part_of_a_folder_is_asked_and_searched(options: list[str], left: set[str], kb: Path, capsys) -> None:
    (kb / "Cardiff.txt").rename(kb / "Cardiff.md")
    answers = asked(capsys, "-r", *options, "kb", "Which town trades?", "--top", "9")
    assert {Path(answer["document"]).stem for answer in answers} == left
    assert run(["prefill", "--library", "-r", "kb", "-q"]) == 0
    found = searched(capsys, "-r", *options, "kb", "town trades")
    assert {Path(place["document"]).stem for place in found} == left
    assert run(["search", *options, "town trades"]) == 2
    assert "choose among the files of folders" in capsys.readouterr().err
