"""One way to find a cache: by its file, by the place or the bytes of its document, by ID, by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gfcli.app import run
from tests.gfcli.library_place import ask, listed


@pytest.fixture
def found(capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """The ID of the one cache that every command finds under a name."""

    def find(name: str) -> str:
        assert run(["cache", "tag", name, "--add", "found"]) == 0
        [entry] = [entry for entry in listed(capsys) if entry["tags"] == ["found"]]
        assert run(["cache", "tag", name, "--remove", "found"]) == 0
        capsys.readouterr()
        for command in (["inspect", "--json"], ["verify", "--json"]):
            assert run([*command, name]) == 0
            row = json.loads(capsys.readouterr().out)
            assert row["digest"] == entry["digest"]
        assert run(["status", "--json", name]) == 0
        assert [row["path"] for row in json.loads(capsys.readouterr().out)["caches"]] == [entry["path"]]
        assert run(["cache", "rm", name, "--dry-run"]) == 0
        assert entry["id"] in capsys.readouterr().err
        assert run(["cache", "export", name, "-o", "exported.gfc", "--force", "-q"]) == 0
        capsys.readouterr()
        return str(entry["id"])

    return find


def test_every_name_of_a_cache(place: Path, found: Callable[[str], str], capsys) -> None:
    ask(capsys, "doc.txt", "Who?")
    [entry] = listed(capsys)
    for name in ("doc.txt", f"../{place.name}/doc.txt", str(place / "doc.txt"), entry["id"], entry["id"][:5]):
        assert found(name) == entry["id"]
    assert run(["cache", "pin", entry["path"]]) == 0
    assert run(["cache", "pin", "exported.gfc"]) == 0  # a copy of it
    assert run(["ask", "--cache", entry["id"], "Who?", "-n", "1"]) == 0


def test_a_document_that_was_moved_is_found_as_gf_ask_finds_it(place: Path, found, capsys) -> None:
    ask(capsys, "doc.txt", "Who?")
    (place / "doc.txt").rename(place / "moved.txt")
    (place / "other.txt").write_text("Quite another document.")
    assert ask(capsys, "moved.txt", "Who?")["document_tokens_computed"] == 0
    assert run(["ask", "other.txt", "Who?", "-n", "1"]) == 0
    assert found("moved.txt") == next(e["id"] for e in listed(capsys) if e["source_name"] == "doc.txt")
    assert run(["cache", "rm", "moved.txt", "-y", "-q"]) == 0
    assert [entry["source_name"] for entry in listed(capsys)] == ["other.txt"]


def test_a_cache_that_was_imported_is_found_by_the_name_of_its_document(
    place: Path, found, capsys, monkeypatch
) -> None:
    ask(capsys, "doc.txt", "Who?")
    assert run(["cache", "export", "doc.txt", "-o", "copy.gfc"]) == 0
    assert run(["cache", "rm", "doc.txt", "-y"]) == 0
    (place / "far").mkdir()
    monkeypatch.chdir(place / "far")
    assert run(["cache", "import", "../copy.gfc"]) == 0
    [entry] = listed(capsys)
    assert found("doc.txt") == entry["id"]  # the document is not here
    Path("doc.txt").write_text("Quite another document of this name.")
    capsys.readouterr()
    for command in (["cache", "rm", "-y"], ["inspect"], ["verify"], ["status"]):
        assert run([*command, "doc.txt"]) != 0
    assert len(listed(capsys)) == 1


def test_a_name_of_several_documents_names_none(place: Path, capsys) -> None:
    for folder in ("a", "b"):
        (place / folder).mkdir()
        (place / folder / "note.txt").write_text(f"The code of {folder} is 12345.")
        assert run(["ask", f"{folder}/note.txt", "Which?", "-n", "1"]) == 0
    capsys.readouterr()
    assert run(["cache", "rm", "note.txt", "-y"]) == 2
    assert "note.txt names caches of 2 documents" in capsys.readouterr().err
    assert run(["cache", "pin", "a/note.txt"]) == 0
    assert [entry["pinned"] for entry in sorted(listed(capsys), key=lambda e: e["source_path"])] == [True, False]


def test_what_means_nothing_in_the_library(place: Path, capsys) -> None:
    (place / "notes.txt").write_text("Nobody has read this.")
    assert run(["inspect", "notes.txt"]) == 6
    assert run(["verify", "notes.txt"]) == 6
    capsys.readouterr()
    assert run(["status", "notes.txt"]) == 2
    assert "notes.txt is not a cache file" in capsys.readouterr().err
    for command in (["inspect"], ["verify"], ["status"], ["cache", "pin"]):
        assert run([*command, "nowhere.txt"]) == 4


def test_a_name_that_is_not_there_and_a_pattern_that_nothing_fits(tmp_path: Path, capsys, monkeypatch) -> None:
    """Named so by every command that takes both."""
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["ask", "--cache", "{}", "Who?"],
        ["inspect", "{}"],
        ["verify", "{}"],
        ["status", "{}"],
        ["prefill", "{}"],
    ):
        for name, words in (
            ("no.gfc", "error: no.gfc: no such file or directory"),
            ("no*.gfc", "error: no*.gfc: no such file, and no file matches it as a pattern"),
        ):
            assert run([name if word == "{}" else word for word in arguments]) in (4, 3 if "*" in name else 4), (
                arguments
            )
            assert capsys.readouterr().err.splitlines()[0] == words, arguments
