"""Where caches are put: names, folders, files that are there already."""

from __future__ import annotations

import json
import os
from pathlib import Path

import gfcache
import pytest

from gfcli.app import run
from gfcli.support.outputs import write_record
from tests.endless import guarded
from tests.full_disk import files_of_at_most
from tests.gfcli.conftest import TEXT


def test_output_names(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "doc.txt").write_text(TEXT)
    (tmp_path / "doc.md").write_text(TEXT + "more")
    names = [str(tmp_path / "doc.txt"), str(tmp_path / "doc.md")]
    assert run(["prefill", *names, "-m", str(tiny_model), "-q"]) == 0
    assert [Path(line).name for line in capsys.readouterr().out.split()] == ["doc.txt.gfc", "doc.md.gfc"]
    # The same names again, in the other order, or one of them alone: each document keeps its file.
    assert run(["prefill", *names[::-1], "-m", str(tiny_model), "-q"]) == 0
    assert [Path(line).name for line in capsys.readouterr().out.split()] == ["doc.md.gfc", "doc.txt.gfc"]
    assert run(["prefill", names[0], "-m", str(tiny_model), "-q", "-o", str(tmp_path)]) == 0
    assert Path(capsys.readouterr().out.strip()) == tmp_path / "doc.txt.gfc"
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
    """In one folder: those that tell them apart are kept below it, whatever else the names begin with."""
    for folder in ("a", "b", "c/d"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x.txt").write_text(f"{TEXT[:300]} {folder}")
    names = [str(tmp_path / folder / "x.txt") for folder in ("a", "b", "c/d")]
    for order, status in ((1, "ok"), (-1, "fresh")):
        assert run(["prefill", *names[::order], "-m", str(tiny_model), "-o", f"{tmp_path}/out/", "--jsonl"]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert {row["status"] for row in rows} == {status}
    for folder in ("a", "b", "c/d"):
        source = gfcache.inspect_cache(tmp_path / "out" / folder / "x.gfc")["source"]
        assert source["path"] == str(tmp_path / folder / "x.txt")


def test_documents_that_cannot_be_told_apart_fail(tmp_path: Path, tiny_model: Path, monkeypatch, capsys) -> None:
    """The folders that would tell them apart are links to one."""
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "x.txt").write_text(f"{TEXT[:300]} {folder}")
        Path("out", folder).symlink_to(".")
    assert run(["prefill", "a/x.txt", "b/x.txt", "-m", str(tiny_model), "-o", "out"]) == 3
    out, err = capsys.readouterr()
    assert not out
    assert err.count("would be that of another document of this call, too") == 2
    assert not list(tmp_path.rglob("*.gfc"))


def test_a_name_that_is_taken_is_left_to_its_document(work: Path, capsys) -> None:
    """Whoever comes later keeps the whole name, and the same call gives the same names again."""
    for name, code in (("article.err", "11111"), ("article.txt", "48213")):
        (work / name).write_text(f"The code of the blue cabinet is {code}.\n" + TEXT[:300])

    def made(*arguments: str) -> dict[str, str]:
        assert run(["prefill", *arguments, "--jsonl"]) == 0
        return {row["source"]: row["output"] for row in map(json.loads, capsys.readouterr().out.splitlines())}

    assert made("article.err") == {"article.err": "article.gfc"}
    for _ in range(2):
        assert made("article.txt") == {"article.txt": "article.txt.gfc"}
    assert gfcache.inspect_cache("article.gfc")["source"]["name"] == "article.err"
    for _ in range(2):
        found = made("-r", ".", "-o", ".")
        assert found == {"article.err": "article.err.gfc", "article.txt": "article.txt.gfc"}
    for name in ("article.err", "article.txt"):
        assert gfcache.inspect_cache(name + ".gfc")["source"]["name"] == name


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


def test_a_record_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, "old")
    with files_of_at_most(1000), pytest.raises(gfcache.CacheWriteError, match="cannot write these 3,001 bytes"):
        write_record(path, "new" * 1000)
    assert path.read_text() == "old\n"
    assert [one.name for one in tmp_path.iterdir()] == ["record.json"]
    write_record(Path("/dev/null"), "new")
    os.mkfifo(tmp_path / "pipe")
    with guarded(), pytest.raises(gfcache.CacheWriteError, match="cannot write"):
        write_record(tmp_path / "pipe", "new")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_record(tmp_path / "pipe", "new")
    assert os.read(reader, 10) == b"new\n"
    os.close(reader)
