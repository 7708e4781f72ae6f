"""Where caches are put: names, folders, files that are there already."""

from __future__ import annotations

import json
from pathlib import Path

import gfcache
import pytest

from gfcli.app import run
from tests.gfcli.conftest import TEXT


def test_output_names(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "doc.txt").write_text(TEXT)
    (tmp_path / "doc.md").write_text(TEXT + "more")
    names = [str(tmp_path / "doc.txt"), str(tmp_path / "doc.md")]
    assert run(["prefill", *names, "-m", str(tiny_model), "-q"]) == 0
    assert [Path(line).name for line in capsys.readouterr().out.split()] == ["doc.gfc", "doc.md.gfc"]
    # The same names again, in the other order: each document keeps its file.
    assert run(["prefill", *names[::-1], "-m", str(tiny_model), "-q"]) == 0
    assert [Path(line).name for line in capsys.readouterr().out.split()] == ["doc.md.gfc", "doc.gfc"]
    assert run(["prefill", names[0], "-m", str(tiny_model), "-q", "-o", str(tmp_path)]) == 0
    assert Path(capsys.readouterr().out.strip()) == tmp_path / "doc.gfc"
    assert run(["prefill", *names, "-m", str(tiny_model), "-o", str(tmp_path / "one.gfc")]) == 2
    assert capsys.readouterr().err.count("one output file") == 1


def test_a_document_has_one_identity_under_all_its_names(cache: Path, document: Path, tiny_model: Path, capsys) -> None:
    (document.parent / "sub").mkdir()
    name = f"{document.parent}/sub/../{document.name}"
    assert run(["prefill", name, "-m", str(tiny_model), "--jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "fresh"
    document.write_text(TEXT + " It grew.")
    assert run(["prefill", name, "-m", str(tiny_model)]) == 0
    assert gfcache.inspect_cache(cache)["source"]["path"] == str(document)
    (document.parent / "far" / "deep").mkdir(parents=True)
    (document.parent / "link").symlink_to("far/deep")
    (document.parent / "far" / document.name).write_text("Out of a link to a folder.")
    assert run(["prefill", f"{document.parent}/link/../{document.name}", "-m", str(tiny_model)]) == 0
    made = document.parent / "far" / "doc.gfc"
    assert gfcache.inspect_cache(made)["source"]["path"] == str(made.with_suffix(".txt"))


def test_three_documents_of_one_name(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in "abc":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text(f"{TEXT} {folder}")
    names = [str(tmp_path / folder / "x.txt") for folder in "abc"]
    assert run(["prefill", *names, "-m", str(tiny_model), "-o", f"{tmp_path}/out/", "--force"]) == 3
    assert len(capsys.readouterr().out.split()) == 2
    sources = {gfcache.inspect_cache(path)["source"]["path"] for path in (tmp_path / "out").iterdir()}
    assert sources == set(names[:2])


def test_relative_names_keep_their_folders_where_others_are_taken(
    tmp_path: Path, tiny_model: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"{folder}/x.txt" for folder in ("a", "b", "c", "c/d")]
    for name in names:
        Path(name).parent.mkdir()
        Path(name).write_text(f"{TEXT[:300]} {name}")
    for status in ("ok", "fresh"):
        assert run(["prefill", *names, "-m", str(tiny_model), "-o", "out/", "--jsonl"]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row["output"] for row in rows] == ["out/x.gfc", "out/x.txt.gfc", "out/c/x.gfc", "out/c/d/x.gfc"]
        assert {row["status"] for row in rows} == {status}


def test_existing_outputs(
    cache: Path, document: Path, tiny_model: Path, other_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = cache.read_bytes()
    assert run(["prefill", str(document), "-m", str(tiny_model)]) == 0  # the same again: refreshed
    document.write_text(TEXT + " It grew.")
    assert run(["prefill", str(document), "-m", str(tiny_model)]) == 0  # the same place, edited: refreshed
    second = cache.read_bytes()
    assert first != second
    assert run(["prefill", str(document), "-m", str(other_model)]) == 2
    error = capsys.readouterr().err
    assert "with weights" in error
    assert "--force" in error
    other = document.with_name("other.txt")
    other.write_text("Quite another document.")
    assert run(["prefill", str(other), "-m", str(tiny_model), "-o", str(cache)]) == 2
    assert cache.read_bytes() == second
    foreign = document.with_name("notes.gfc")
    foreign.write_text("my own notes")
    assert run(["prefill", str(other), "-m", str(tiny_model), "-o", str(foreign)]) == 2
    for own in (foreign, document):
        before = own.read_bytes()
        capsys.readouterr()
        for force in ([], ["--force"]):
            assert run(["prefill", str(document), "-m", str(tiny_model), "-o", str(own), *force]) == 2
        assert "--force" not in capsys.readouterr().err
        assert own.read_bytes() == before
    assert run(["prefill", str(document), "-m", str(other_model), "--force"]) == 0
    assert cache.read_bytes() != second
    cache.write_bytes(second[:-1])  # damaged
    for force, code in (([], 2), (["--force"], 0)):
        assert run(["prefill", str(document), "-m", str(tiny_model), "-o", str(cache), *force]) == code


def test_an_output_in_a_folder_that_does_not_exist(cache: Path, tiny_model: Path, capsys) -> None:
    output = ["-o", str(cache.parent / "no" / "x.gfc"), "-m", str(tiny_model)]
    document, one = str(cache.with_suffix(".txt")), str(cache)
    assert run(["ask", "-n", "1", document, "-m", str(tiny_model), "Who?"]) == 0
    for command in (
        ["prefill", document, *output], ["append", one, document, *output], ["flatten", one, *output[:2]],
        ["truncate", one, "--to-line", "2", *output], ["ask", document, "--questions", document, "--jsonl", *output],
        ["cache", "export", document, *output[:2]],
    ):  # fmt: skip
        capsys.readouterr()
        assert run(command) == 2, command
        assert f"mkdir -p {cache.parent}/no" in capsys.readouterr().err
