"""Caches and documents that were moved or copied, together or alone: what is found again, and what is left alone."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import gfcache
import pytest

from gfcli.app import run
from goldfinch.library.freshness import source_state
from tests.gfcli.commands.test_status import states


@pytest.fixture(autouse=True)
def _model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GF_MODEL", "tiny")


def test_documents_and_caches_that_were_moved_together(folder: Path, capsys, monkeypatch) -> None:
    """Nothing is recomputed; what was edited since is stale, at its new place."""
    moved = folder.rename(folder.parent / "moved")
    monkeypatch.chdir(moved)
    fresh = {"a.gfc": "fresh", "b.gfc": "fresh", "c.gfc": "fresh"}
    assert states(capsys) == fresh
    assert run(["status"]) == 0
    assert str(moved / "b.txt") in capsys.readouterr().out
    assert run(["prefill", "a.txt", "b.txt", "c.txt", "--checkpoints", "512", "--jsonl"]) == 0
    assert {json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()} == {"fresh"}
    with open("b.txt", "a") as stream:
        stream.write(" Edited.")
    assert states(capsys) == fresh | {"b.gfc": "stale"}
    assert run(["refresh", "-q"]) == 0
    assert states(capsys) == fresh
    with open("b.txt", "a") as stream:
        stream.write(" And again.")
    assert run(["prefill", "b.txt", "--jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["output"] == "b.gfc"
    assert states(capsys) == fresh
    (folder.parent / "far").mkdir()
    Path("b.txt").rename("renamed.text")
    assert states(capsys) == fresh  # by its bytes
    Path("renamed.text").rename(folder.parent / "far" / "b.txt")
    assert states(capsys) == fresh | {"b.gfc": "orphaned"}


def test_folders_of_documents_and_of_caches_that_were_moved_together(folder: Path, capsys, monkeypatch) -> None:
    """To another machine, say: no absolute path is there any more; or copied, with the first ones still there."""
    (folder / "docs").mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).rename(folder / "docs" / name)
    assert run(["prefill", "-r", "docs", "-o", "caches/", "-q"]) == 0
    copied = Path(shutil.copytree(folder, folder.parent / "copied"))
    moved = folder.rename(folder.parent / "moved")
    for place in (copied, moved):
        monkeypatch.chdir(place)
        capsys.readouterr()
        assert states(capsys, "caches") == {"a.gfc": "fresh", "b.gfc": "fresh"}
        assert run(["prefill", "-r", "docs", "-o", "caches/", "--jsonl"]) == 0
        assert {json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()} == {"fresh"}


def test_another_file_of_the_name_is_anybodys(folder: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    """A cache that was moved alone is not replaced by that of a document that happens to lie beside it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "b.gfc").rename(elsewhere / "b.gfc")
    (elsewhere / "b.txt").write_text("Another document of this name.")
    monkeypatch.chdir(elsewhere)
    kept = Path("b.gfc").read_bytes()
    assert states(capsys) == {"b.gfc": "fresh"}  # its own document is where it was
    assert run(["prefill", "b.txt", "--jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["output"] == "b.txt.gfc"
    assert Path("b.gfc").read_bytes() == kept
    assert run(["refresh"]) == 0
    assert Path("b.gfc").read_bytes() == kept
    # A file of 1.0 does not say where its document lies from there.
    with gfcache.read_cache("b.gfc") as file:
        header = file.header
    source = {name: value for name, value in header.source.items() if name != "relative_path"}
    (folder / "b.txt").unlink()
    assert source_state(dataclasses.replace(header, source=source), Path("b.gfc"))[0] == "orphaned"
