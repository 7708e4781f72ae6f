"""gf ask DOCUMENT and gf cache: the library from the command line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import gfcache
import jsonschema
import pytest

from gfcli.app import run
from tests.cpu_time import PATIENCE_S
from tests.gfcli.library_place import TEXT, ask, listed
from tests.schemas import schema

# Every test has a current folder, with a library of its own.
pytestmark = pytest.mark.usefixtures("place")


def test_miss_hit_and_answers_equal_those_of_a_cache_file(capsys) -> None:
    first = ask(capsys, "doc.txt", "What?")
    assert first["library"]["state"] == "miss"
    assert first["document_tokens_computed"] > 0
    second = ask(capsys, "doc.txt", "What?")
    assert second["library"] == {"state": "hit", "path": first["library"]["path"]}
    assert second["document_tokens_computed"] == 0
    assert second["document_tokens_cached"] == first["document_tokens_computed"]
    assert run(["prefill", "doc.txt", "-q"]) == 0
    capsys.readouterr()
    for arguments in (["doc.gfc"], ["--cache", "doc.gfc"]):
        assert ask(capsys, *arguments, "What?")["answer"] == first["answer"] == second["answer"]
    assert [row["hits"] for row in listed(capsys)] == [1]


def test_a_changed_document_is_computed_from_the_change_on(place: Path, capsys) -> None:
    (place / "doc.txt").write_text(TEXT)
    whole = ask(capsys, "doc.txt", "What?")
    assert whole["document_tokens_computed"] > 8 * 512
    (place / "doc.txt").write_text(TEXT[:-300] + "A new end of it all.")
    changed = ask(capsys, "doc.txt", "What?")
    assert changed["library"]["state"] == "stale"
    assert 0 < changed["document_tokens_computed"] < whole["document_tokens_computed"] / 4
    shutil.copy("doc.txt", "cold.txt")
    monkey = place / "other-cache"
    os.environ["GF_CACHE_DIR"] = str(monkey)  # restored by the fixture of all tests
    assert ask(capsys, "cold.txt", "What?")["answer"] == changed["answer"]


def test_a_moved_or_copied_document_is_a_hit(capsys) -> None:
    ask(capsys, "doc.txt", "What?")
    os.rename("doc.txt", "moved.txt")
    assert ask(capsys, "moved.txt", "What?")["library"]["state"] == "hit"
    assert len(listed(capsys)) == 1


def test_a_hit_shows_no_progress_and_lines_steer_no_terminal(place: Path, capsys, monkeypatch) -> None:
    (place / "doc.txt").write_text("Red \x1b[31m line. " + TEXT[:600])
    started = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("rich.progress.Progress.start", lambda self: started.append(self))
    for hits in (False, True):
        started.clear()
        assert run(["ask", "--cite", "doc.txt", "-n", "2", "What?"]) == 0
        out = capsys.readouterr().out
        assert bool(started) != hits
        assert "Red ?[31m" in out
        assert "\x1b" not in out


def test_the_pace_of_the_journal_is_that_of_the_variable(monkeypatch) -> None:
    from goldfinch.caching.journal import Journal

    seen = []
    monkeypatch.setattr(Journal, "note", lambda self, partial: seen.append(self._every_s))
    monkeypatch.setenv("GF_JOURNAL_SECONDS", "3")
    for command in (["ask", "doc.txt", "-n", "1", "What?"], ["prefill", "--library", "--force", "doc.txt"]):
        assert run(command) == 0
        assert seen
        assert set(seen) == {3.0}
        seen.clear()


def test_a_damaged_or_vanished_entry_is_made_again(capsys) -> None:
    path = Path(ask(capsys, "doc.txt", "What?")["library"]["path"])
    good = path.read_bytes()
    altered = bytearray(good)
    altered[-100] ^= 1
    for content in (good[:1000], bytes(altered), None):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        assert ask(capsys, "doc.txt", "What?")["document_tokens_computed"] > 0
        with gfcache.read_cache(path) as file:  # the same but for the time stamp
            assert file.header.tokens > 0
        gfcache.verify_cache(path)


def test_a_damaged_entry_is_no_hit(capsys) -> None:
    path = Path(ask(capsys, "doc.txt", "What?")["library"]["path"])

    def alter() -> None:
        data = bytearray(path.read_bytes())
        data[-100] ^= 1
        path.write_bytes(data)

    alter()
    ask(capsys, "doc.txt", "--require-cached", "What?", code=10)
    assert run(["prefill", "--library", "doc.txt"]) == 0
    gfcache.verify_cache(path)
    alter()
    assert ask(capsys, "doc.txt", "What?")["library"]["state"] == "miss"
    alter()
    assert run(["ask", "doc.txt", "-n", "1", "What?"]) == 0
    assert "damaged or missing" in capsys.readouterr().err
    gfcache.verify_cache(path)


def test_an_index_that_cannot_be_used_hinders_no_answer(capsys) -> None:
    ask(capsys, "doc.txt", "What?")
    index = Path(os.environ["GF_CACHE_DIR"]) / "library" / "index.sqlite3"
    with contextlib.closing(sqlite3.connect(index)) as connection:
        connection.execute("DROP TABLE tags")
    os.rename("doc.txt", "moved.txt")
    assert ask(capsys, "moved.txt", "What?")["library"]["state"] == "hit"
    with contextlib.closing(sqlite3.connect(index)) as connection:
        connection.execute("ALTER TABLE entries ADD COLUMN notes TEXT")
        connection.execute("PRAGMA user_version = 2")
    assert run(["ask", "moved.txt", "-n", "1", "What?"]) == 0
    assert "pins and tags are not seen, nothing is removed" in capsys.readouterr().err
    assert run(["cache", "pin", "doc.txt"]) == 8
    assert "version 2, this gf knows up to 1" in capsys.readouterr().err
    assert run(["cache", "rm", "doc.txt", "-y"]) == 3
    assert "perhaps pinned" in capsys.readouterr().err
    assert len(listed(capsys)) == 1


def test_a_rebuilt_index_is_said(capsys) -> None:
    ask(capsys, "doc.txt", "What?")
    index = Path(os.environ["GF_CACHE_DIR"]) / "library" / "index.sqlite3"
    for command in (["ask", "doc.txt", "-n", "1", "What?"], ["cache", "ls"]):
        index.write_bytes(b"never was one" * 1000)
        assert run(command) == 0
        assert "rebuilt: pins, tags and uses are gone; what was there is" in capsys.readouterr().err
        assert run(command) == 0
        assert "rebuilt" not in capsys.readouterr().err


def test_other_models_and_precisions_have_entries_of_their_own(other_model: Path, capsys) -> None:
    ask(capsys, "doc.txt", "What?")
    assert ask(capsys, "doc.txt", "-m", str(other_model), "What?")["library"]["state"] == "miss"
    assert ask(capsys, "doc.txt", "--dtype", "bfloat16", "What?")["library"]["state"] == "miss"
    assert ask(capsys, "doc.txt", "What?")["library"]["state"] == "hit"
    assert len(listed(capsys)) == 3


def test_require_cached_never_computes(place: Path, capsys) -> None:
    ask(capsys, "doc.txt", "--require-cached", "What?", code=10)
    assert listed(capsys) == []
    ask(capsys, "doc.txt", "What?")
    assert ask(capsys, "doc.txt", "--require-cached", "What?")["document_tokens_computed"] == 0
    (place / "doc.txt").write_text(TEXT[:2000])
    ask(capsys, "doc.txt", "--require-cached", "What?", code=10)


def test_explain_a_document(capsys) -> None:
    found = ask(capsys, "doc.txt", "--explain", "What?")["explain"]
    assert found["tokens_from_cache"] == 0
    assert found["tokens_computed"] > 0
    found = ask(capsys, "doc.txt", "--explain", "What?")["explain"]
    assert (found["tokens_computed"], found["source_state"]) == (0, "fresh")


def test_documents_on_stdin_and_wrong_calls(capsys) -> None:
    for arguments, code in (
        (["What is it?"], 2), (["Who signed?"], 2), (["absent.txt"], 4), (["absent.txt", "What?"], 4), ([], 2),
        (["--cache", "a.gfc", "--cache", "b.gfc", "What?"], 4), (["doc.txt", "What?", "-o", "x"], 2), ([".", "What?"], 2),
        (["--cache", "a.gfc", "doc.txt", "What?"], 2), (["doc.txt", "What?", "--jsonl"], 2), (["-"], 2),
    ):  # fmt: skip
        assert run(["ask", *arguments]) == code, arguments
        out, err = capsys.readouterr()
        assert out == ""
        assert "error" in err or '"code"' in err
    process = [sys.executable, "-m", "gfcli", "ask", "-", "What?", "-n", "3", "--json"]
    for state in ("miss", "hit"):
        done = subprocess.run(process, input=TEXT[:2000], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["library"]["state"] == state


@pytest.mark.slow
def test_two_processes_compute_a_document_once(place: Path) -> None:
    command = [sys.executable, "-m", "gfcli", "ask", "doc.txt", "What?", "-n", "3", "--json"]
    (place / "doc.txt").write_text(TEXT * 3)
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    found = []
    for process in running:
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, err
        found.append(json.loads(out))
    assert sorted(row["document_tokens_computed"] > 0 for row in found) == [False, True]
    assert found[0]["answer"] == found[1]["answer"]


def test_the_cap_of_the_settings_holds(place: Path, capsys, monkeypatch) -> None:
    sizes = []
    for n in range(3):
        (place / f"{n}.txt").write_text(f"Document {n}. " + TEXT[:2500])
        ask(capsys, f"{n}.txt", "What?")
        sizes.append(listed(capsys)[0]["bytes"])
    cap = sum(sizes) + 20_000
    monkeypatch.setenv("GF_CACHE_MAX_SIZE", str(cap))
    for n in range(3, 6):
        (place / f"{n}.txt").write_text(f"Document {n}. " + TEXT[:2500])
        ask(capsys, f"{n}.txt", "What?")
        assert sum(row["bytes"] for row in listed(capsys)) <= cap
    assert [row["source_name"] for row in listed(capsys, "--sort", "name")][-1] == "5.txt"
    monkeypatch.setenv("GF_CACHE_MAX_SIZE", str(max(sizes) + 10_000))
    before = listed(capsys)
    for looks in (["cache", "du"], ["plan", "doc.txt"], ["cache", "prune", "--dry-run"], ["cache", "prune"]):
        capsys.readouterr()
        monkeypatch.setattr(sys, "stdin", io.StringIO())  # nobody to ask
        assert run(looks) == (2 if looks == ["cache", "prune"] else 0)
        assert ("to remove" in capsys.readouterr().err) == ("prune" in looks)
        assert listed(capsys) == before
    assert len(before) > 1
    assert run(["cache", "prune", "-y"]) == 0
    assert len(listed(capsys)) == 1
    monkeypatch.setenv("GF_CACHE_MAX_SIZE", "1000")
    assert run(["ask", "doc.txt", "-n", "2", "What?"]) == 0
    _out, err = capsys.readouterr()
    assert "answered but not kept" in err
    assert listed(capsys) == []


def test_documents_that_make_room_for_each_other_have_failed(place: Path, capsys, monkeypatch) -> None:
    for n in range(3):
        (place / f"{n}.txt").write_text(f"Document {n}. " + TEXT[:2500])
    assert run(["prefill", "0.txt", "--library"]) == 0
    monkeypatch.setenv("GF_CACHE_MAX_SIZE", str(listed(capsys)[0]["bytes"] * 3 // 2))  # for one of them
    assert run(["prefill", "0.txt", "1.txt", "2.txt", "--library", "--jsonl"]) == 3
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    for row in found:
        jsonschema.validate(row, schema("prefill"))
    assert [(row["source"], row["status"]) for row in found] == [
        ("0.txt", "fresh"), ("1.txt", "ok"), ("0.txt", "failed"), ("2.txt", "ok"), ("1.txt", "failed"),
    ]  # fmt: skip
    assert {row["error"]["code"] for row in found if row["status"] == "failed"} == {8}
    assert err.count("removed to keep the cap") == 2
    assert "1 pre-filled, 2 of 3 documents failed" in err
    assert [row["source_name"] for row in listed(capsys)] == ["2.txt"]
    assert run(["ask", "0.txt", "-n", "2", "What?"]) == 0
    assert "1 removed to keep the cap" in capsys.readouterr().err


def test_a_library_that_cannot_be_written_still_answers(capsys, monkeypatch) -> None:
    monkeypatch.setenv("GF_CACHE_DIR", "/proc/no-such-place")
    monkeypatch.setenv("GF_KERNELS", "torch")
    assert run(["ask", "doc.txt", "-n", "2", "--no-stream", "What?"]) == 0
    _out, err = capsys.readouterr()
    assert "answered but not kept" in err


def test_a_full_disk_still_answers(capsys, monkeypatch) -> None:
    real = os.fsync

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert run(["ask", "doc.txt", "-n", "2", "--no-stream", "What?"]) == 0
    assert "No space left" in capsys.readouterr().err
    monkeypatch.setattr(os, "fsync", real)
    library = Path(os.environ["GF_CACHE_DIR"]) / "library"
    assert [p for p in library.rglob("*") if p.is_file() and p.parent != library] == []


@pytest.mark.slow
def test_a_killed_ask_leaves_no_trace_but_its_journal(place: Path) -> None:
    import signal

    (place / "doc.txt").write_text(TEXT * 60)
    environment = os.environ | {"GF_JOURNAL_SECONDS": "0"}
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = subprocess.Popen(
            [sys.executable, "-m", "gfcli", "ask", "-v", "doc.txt", "What?"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=environment,
        )  # fmt: skip
        assert process.stderr is not None
        process.stderr.readline()
        library = Path(os.environ["GF_CACHE_DIR"]) / "library"
        deadline = time.monotonic() + PATIENCE_S
        while not list(library.rglob(".*.lock")) or len(list(library.rglob(".*"))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == code, err
        assert "Traceback" not in err
        left = [p.name for p in library.rglob("*") if p.is_file() and p.parent != library]
        assert all(name.endswith(".journal") for name in left), left


def test_explain_is_about_the_document_that_was_read(capsys) -> None:
    """The cache was made from another file of the same text, which has changed or gone since."""
    shutil.copy("doc.txt", "copy.txt")
    ask(capsys, "doc.txt", "What?")
    for change in (lambda: Path("doc.txt").write_text("Something else."), lambda: os.remove("doc.txt")):
        change()
        found = ask(capsys, "copy.txt", "--explain", "What?")
        assert found["library"]["state"] == "hit"
        assert found["explain"]["source_state"] == "fresh"
        assert found["explain"]["first_divergent_token"] is None


def test_strict_holds_for_documents_of_the_library(capsys) -> None:
    from tests.cache_format.craft import craft

    path = Path(ask(capsys, "doc.txt", "What?")["library"]["path"])
    ask(capsys, "doc.txt", "--strict", "What?")
    with gfcache.read_cache(path) as file:
        numerics = file.header.numerics
    craft(path, path, numerics=numerics | {"threads": 99})
    ask(capsys, "doc.txt", "--strict", "What?", code=5)
    for verbose in (False, True):
        capsys.readouterr()
        assert run(["ask", "doc.txt", "-n", "2", "What?", *["-v"] * verbose]) == 0
        assert ("threads 99" in capsys.readouterr().err) == verbose


def test_positions_that_were_asked_for_are_made(capsys) -> None:
    ask(capsys, "doc.txt", "What?")
    lines = []
    for spacing in ("512", "512", "auto", "none", "none"):
        assert run(["prefill", "--library", "--jsonl", "--checkpoints", spacing, "doc.txt"]) == 0
        lines.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert [line["status"] for line in lines] == ["ok", "fresh", "fresh", "ok", "fresh"]
    assert gfcache.inspect_cache(lines[1]["output"])["checkpoints"] == []


def test_a_busy_library_still_answers(place: Path, capsys, monkeypatch) -> None:
    from gfcache.store import folder as store_folder

    def busy(*_: object, **__: object) -> None:
        raise gfcache.CacheLocked(place)

    shutil.copy("doc.txt", "other.txt")
    with open("other.txt", "a") as stream:
        stream.write("And so on.")
    ask(capsys, "doc.txt", "What?")
    monkeypatch.setattr(store_folder.StoreFolder, "locked", busy)
    assert run(["ask", "other.txt", "-n", "2", "What?"]) == 0
    assert "not kept" in capsys.readouterr().err
    monkeypatch.setenv("GF_CACHE_MAX_SIZE", "1k")
    assert run(["ask", "doc.txt", "-n", "2", "What?"]) == 0
    assert "not brought below its cap" in capsys.readouterr().err


def test_a_pipe_is_read_once() -> None:
    os.mkfifo("pipe")
    with subprocess.Popen(["sh", "-c", "sleep 0.2; exec cat doc.txt > pipe"]) as writer:
        command = [sys.executable, "-m", "gfcli", "prefill", "pipe", "-o", "pipe.gfc"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        finally:
            writer.kill()
    assert done.returncode == 0, done.stderr
    with gfcache.read_cache("pipe.gfc") as file:
        assert file.header.source["bytes"] == Path("doc.txt").stat().st_size


def test_a_single_token_behind_the_bare_document_is_cited(capsys) -> None:
    assert run(["ask", "doc.txt", "--raw", "--cite", "-n", "1", ""]) == 0
    assert "[line" in capsys.readouterr().out
