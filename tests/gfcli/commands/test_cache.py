"""gf cache: ls, rm, pin, tag, prune, export, import, du."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import gfcache
import pytest

from gfcli.app import run
from tests.cpu_time import PATIENCE_S
from tests.gfcli.library_place import TEXT, ask, listed
from tests.gfcli.start_up import check_light, start_up_ratio


def test_ls_filters_sorts_and_shows(place: Path, capsys) -> None:
    for name, length in (("b.md", 800), ("a.txt", 2500)):
        (place / name).write_text(TEXT[:length])
        ask(capsys, name, "What?")
    assert [r["source_name"] for r in listed(capsys)] == ["a.txt", "b.md"]
    assert [r["source_name"] for r in listed(capsys, "--sort", "size:asc")] == ["b.md", "a.txt"]
    assert [r["source_name"] for r in listed(capsys, "--sort", "name", "--limit", "1")] == ["a.txt"]
    size = listed(capsys)[0]["bytes"]
    for condition, expected in (
        ("size>1k", 2), (f"size>={size}", 1), ("size>1g", 0), ("tokens<600", 1), ("hits=0", 2), ("used<1h", 2), ("used>1h", 0),
        ("created>2w", 0), ("created<6mo", 2), ("used>1y", 0), ("tokens>0.1k", 2), ("tokens>1m", 0), ("name=*.md", 1), ("name!=*.md", 1), ("model=tiny*", 2), ("model=other", 0), ("pinned=yes", 0), ("tag!=x", 2),
    ):  # fmt: skip
        assert len(listed(capsys, "--filter", condition)) == expected, condition
    for bad in (
        "size",
        "size>lots",
        "colour=red",
        "used>7",
        "pinned=maybe",
        "name>a",
        "hits>few",
        "tokens=²",
        "tokens>1g",
        "used>1mon",
    ):
        assert run(["cache", "ls", "--filter", bad]) == 2, bad
    assert run(["cache", "ls", "--sort", "colour"]) == 2
    capsys.readouterr()
    assert run(["cache", "ls"]) == 0
    out, err = capsys.readouterr()
    assert "a.txt" in out
    assert "2 caches, " in err
    assert run(["cache", "ls", "-q"]) == 0
    assert all(len(line) == 12 for line in capsys.readouterr().out.split())


def test_rm_previews_asks_and_refuses_without_a_terminal(place: Path, capsys, monkeypatch) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (place / name).write_text(name + TEXT[:600])
        ask(capsys, name, "What?")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert run(["cache", "rm", "a.txt"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "a.txt" in err
    assert "1 to remove" in err
    assert "-y" in err
    assert run(["cache", "rm", "a.txt", "--dry-run"]) == 0
    assert len(listed(capsys)) == 3
    assert run(["cache", "pin", "a.txt"]) == 0
    capsys.readouterr()
    assert run(["cache", "rm", "a.txt", "b.txt", "-y"]) == 3  # one of them stays
    out, err = capsys.readouterr()
    assert len(out.split()) == 1
    assert "1 skipped" in err
    assert {row["source_name"] for row in listed(capsys)} == {"a.txt", "c.txt"}
    assert run(["cache", "rm", "absent.txt", "-y"]) == 4
    assert run(["cache", "rm", "-y"]) == 2
    row = next(row for row in listed(capsys) if row["source_name"] == "a.txt")
    assert run(["cache", "rm", row["id"], "--force", "-y"]) == 0
    assert (place / "a.txt").exists()
    assert len(listed(capsys)) == 1


@pytest.mark.usefixtures("place")
def test_the_question_of_rm_is_asked_on_a_terminal(capsys) -> None:
    import pty

    ask(capsys, "doc.txt", "What?")
    for reply, left in ((b"n\n", 1), (b"y\n", 0)):
        parent, child = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "gfcli", "cache", "rm", "doc.txt"],
            stdin=child,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        os.close(child)
        os.write(parent, reply)
        _, err = process.communicate(timeout=PATIENCE_S)
        os.close(parent)
        assert b"[y/N]" in err
        assert len(listed(capsys)) == left


def test_pin_tag_prune(place: Path, capsys) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (place / name).write_text(name + TEXT[:600])
        ask(capsys, name, "What?")
    assert run(["cache", "tag", "--add", "kb", "--add", "x", "a.txt", "b.txt"]) == 0
    assert run(["cache", "tag", "--remove", "x", "a.txt"]) == 0
    assert run(["cache", "tag", "a.txt"]) == 2
    assert run(["cache", "tag", "--add", "a,b", "a.txt"]) == 2
    assert {r["source_name"]: r["tags"] for r in listed(capsys, "-f", "tag=kb")} == {
        "a.txt": ["kb"],
        "b.txt": ["kb", "x"],
    }
    assert run(["cache", "pin", "-f", "tag=x"]) == 0
    assert run(["cache", "prune", "-y"]) == 0
    assert len(listed(capsys)) == 3
    assert run(["cache", "prune", "--older-than", "1h", "-y"]) == 0
    assert len(listed(capsys)) == 3
    time.sleep(1.1)
    ask(capsys, "c.txt", "What?")
    assert run(["cache", "prune", "--older-than", "1s", "--dry-run"]) == 0
    assert len(listed(capsys)) == 3
    assert run(["cache", "prune", "--older-than", "1s", "-y"]) == 0
    assert {r["source_name"] for r in listed(capsys)} == {"b.txt", "c.txt"}
    assert run(["cache", "prune", "--max-size", "1k", "-y"]) == 0
    assert {r["source_name"] for r in listed(capsys)} == {"b.txt"}
    assert run(["cache", "prune", "--older-than", "soon", "-y"]) == 2


def test_export_and_import_between_machines(place: Path, capsys, monkeypatch) -> None:
    answer = ask(capsys, "doc.txt", "What?")["answer"]
    assert run(["cache", "export", "doc.txt", "-o", "out/"]) == 0
    assert capsys.readouterr().out.strip() == "out/doc.gfc"
    before = (place / "out/doc.gfc").stat()
    assert run(["cache", "export", "doc.txt", "-o", "out/"]) == 0  # what is there is equal
    assert capsys.readouterr().out.strip() == "out/doc.gfc"
    assert (place / "out/doc.gfc").stat().st_mtime_ns == before.st_mtime_ns
    (place / "other.txt").write_text("Quite another document.")
    ask(capsys, "other.txt", "What?")
    assert run(["cache", "export", "other.txt", "-o", "out/doc.gfc"]) == 2
    assert run(["cache", "export", "doc.txt", "--safetensors", "-o", "out/doc.safetensors"]) == 0
    from safetensors.numpy import load_file

    assert "compressed_k" in load_file("out/doc.safetensors")
    for suffix, options in (("gfc", []), ("safetensors", ["--safetensors"])):
        assert run(["cache", "export", "doc.txt", *options, "-o", f"out/doc.{suffix}", "--force"]) == 0
        text = (place / "doc.txt").read_text()
        capsys.readouterr()
        for force in ([], ["--force"]):  # the document itself
            assert run(["cache", "export", "doc.txt", *options, "-o", "doc.txt", *force]) == 2
        assert "--force" not in capsys.readouterr().err
        assert (place / "doc.txt").read_text() == text
    monkeypatch.setenv("GF_CACHE_DIR", str(place / "other-machine"))
    (place / "bad.gfc").write_bytes((place / "out/doc.gfc").read_bytes()[:-1])
    assert run(["cache", "import", "bad.gfc"]) == 6
    assert run(["cache", "import", "bad.gfc", "out/doc.gfc"]) == 3
    (place / "elsewhere").mkdir()
    (place / "doc.txt").rename("elsewhere/same.txt")
    found = ask(capsys, "elsewhere/same.txt", "--require-cached", "What?")
    assert found["answer"] == answer
    assert found["library"]["state"] == "hit"


def test_an_import_replaces_no_cache_of_the_same_text(place: Path, capsys, monkeypatch) -> None:
    """One made from stdin, pinned, is where an import of its text would go."""
    stdin = io.TextIOWrapper(io.BytesIO((place / "doc.txt").read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert run(["prefill", "-", "--library", "-q"]) == 0
    (kept,) = listed(capsys)
    assert run(["cache", "pin", kept["id"]]) == 0
    assert run(["prefill", "doc.txt", "--checkpoints", "64", "-q"]) == 0
    for _ in range(2):  # again changes nothing
        assert run(["cache", "import", "doc.gfc"]) == 0
        rows = {row["id"]: row for row in listed(capsys)}
        assert len(rows) == 2
        assert {name: rows[kept["id"]][name] for name in ("path", "bytes", "pinned")} == {
            "path": kept["path"], "bytes": kept["bytes"], "pinned": True,
        }  # fmt: skip
    damaged = Path(kept["path"])
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert run(["cache", "import", "doc.gfc"]) == 0
    assert gfcache.verify_cache(damaged).digest == gfcache.verify_cache(place / "doc.gfc").digest


@pytest.mark.usefixtures("place")
def test_du(capsys) -> None:
    ask(capsys, "doc.txt", "What?")
    assert run(["cache", "du", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bytes"] == listed(capsys)[0]["bytes"]
    assert found["caches"] == 1
    assert run(["cache", "du"]) == 0
    assert "no cap" in capsys.readouterr().out


@pytest.mark.usefixtures("place")
def test_cache_ls_starts_fast_and_without_torch(capsys) -> None:
    ask(capsys, "doc.txt", "What?")
    check_light(["cache", "ls"], ["cache", "du"], ["cache", "prune", "-y"], ["config", "show"])
    assert start_up_ratio("cache", "ls", limit=3) < 3
