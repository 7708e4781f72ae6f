"""gf prefill over many documents: folders, lists, mirroring, fresh ones, kills, summaries."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gfcache
import pytest

from gfcli.app import run
from goldfinch.jobs import destinations, sources
from goldfinch.jobs.batch import Batch
from goldfinch.jobs.events import Report
from goldfinch.jobs.job import Job
from tests.cpu_time import PATIENCE_S
from tests.gfcli.commands.batch_tree import TEXT, below, statuses

EXPECTED = {"a.gfc", "b.gfc", "sub/c.gfc", "sub/deep/d.gfc", "sub/keep.gfc"}


def test_folders_are_walked_and_mirrored(tree: Path, capsys) -> None:
    assert run(["prefill", "-r", "docs", "-o", "out/"]) == 0
    out, err = capsys.readouterr()
    assert below(tree / "out") == EXPECTED
    assert len(out.split()) == 5
    assert "5 pre-filled" in err
    assert "3 skipped (empty, or not text)" in err
    assert run(["prefill", "-r", "docs"]) == 0
    assert (tree / "docs/sub/deep/d.gfc").exists()
    assert run(["prefill", "docs"]) == 2


def test_fresh_ones_are_skipped_changed_ones_are_not(tree: Path, capsys) -> None:
    assert set(statuses(capsys, "-r", "docs", "-o", "out/").values()) == {"ok"}
    before = {name: (tree / "out" / name).stat().st_mtime_ns for name in EXPECTED}
    assert set(statuses(capsys, "-r", "docs", "-o", "out/").values()) == {"fresh"}
    (tree / "docs/a.txt").write_text("changed " + TEXT[:600])
    again = statuses(capsys, "-r", "docs", "-o", "out/")
    assert [name for name, status in again.items() if status == "ok"] == ["docs/a.txt"]
    after = {name: (tree / "out" / name).stat().st_mtime_ns for name in EXPECTED}
    assert {name for name in EXPECTED if before[name] != after[name]} == {"a.gfc"}
    assert set(statuses(capsys, "-r", "docs", "-o", "out/", "--force").values()) == {"ok"}
    assert set(statuses(capsys, "-r", "docs", "-o", "out/", "--dtype", "bfloat16").values()) == {"ok"}


def test_other_checkpoints_are_not_fresh(tree: Path, capsys) -> None:
    (tree / "long.txt").write_text(TEXT[:5000])
    assert statuses(capsys, "long.txt") == {"long.txt": "ok"}
    assert statuses(capsys, "long.txt") == {"long.txt": "fresh"}
    assert statuses(capsys, "long.txt", "--checkpoints", "512") == {"long.txt": "ok"}
    assert statuses(capsys, "long.txt", "--checkpoints", "512") == {"long.txt": "fresh"}
    assert statuses(capsys, "a.txt", "--base", "long.gfc", code=4)["a.txt"] == "failed"
    (tree / "part.txt").write_text(TEXT[5000:5600])
    assert statuses(capsys, "part.txt", "--base", "long.gfc") == {"part.txt": "ok"}
    assert statuses(capsys, "part.txt", "--base", "long.gfc") == {"part.txt": "fresh"}
    assert statuses(capsys, "part.txt") == {"part.txt": "ok"}  # alone


def test_lists_of_names(tree: Path, capsys) -> None:
    odd = "docs/with\nnewline.txt"
    (tree / odd).write_text("odd name " + TEXT[:500])
    (tree / "list").write_bytes(b"\xef\xbb\xbfdocs/a.txt\r\ndocs/sub/c.txt\n\n")
    assert set(statuses(capsys, "--files-from", "list", "-o", "out/")) == {"docs/a.txt", "docs/sub/c.txt"}
    assert below(tree / "out") == {"docs/a.gfc", "docs/sub/c.gfc"}
    command = [sys.executable, "-m", "gfcli", "prefill", "--files-from", "-", "-0", "-o", "out0/", "-q"]
    subprocess.run(command, input=b"docs/b.md\0" + odd.encode() + b"\0", check=True)
    assert below(tree / "out0") == {"docs/b.gfc", "docs/with\nnewline.gfc"}
    assert run(["prefill", "-0", "docs/a.txt"]) == 2
    assert run(["prefill", "--files-from", "absent"]) == 4
    (tree / "none").write_text("\n")
    assert run(["prefill", "--files-from", "none"]) == 2
    assert run(["prefill"]) == 2
    outside = tree.parent / "outside.txt"
    outside.write_text(TEXT[:500])
    (tree / "list").write_text(f"{outside}\n../outside.txt\n")
    assert statuses(capsys, "--files-from", "list", "-o", "flat/", code=0)[str(outside)] == "ok"
    assert below(tree / "flat") == {"outside.gfc"}  # both are one file, and nothing is written above the folder


@pytest.mark.usefixtures("tree")
def test_patterns_that_the_shell_left_alone(capsys) -> None:
    assert set(statuses(capsys, "docs/*.txt", "docs/**/d.txt", "-o", "out/", code=3)) == {
        "docs/a.txt", "docs/empty.txt", "docs/sub/deep/d.txt",
    }  # fmt: skip
    assert run(["prefill", "zz*.txt"]) == 4


def test_failures_are_named_in_the_summary(tree: Path, capsys) -> None:
    (tree / "docs/latin.txt").write_bytes(b"%PDF-1.4")
    assert run(["prefill", "docs/a.txt", "docs/latin.txt", "docs/gone.txt", "docs/b.md", "-o", "out/"]) == 3
    out, err = capsys.readouterr()
    assert out.split() == ["out/a.gfc", "out/b.gfc"]
    assert "2 of 4 documents failed" in err
    assert "failed: docs/latin.txt (exit 2)" in err
    assert "failed: docs/gone.txt (exit 4)" in err


@pytest.mark.usefixtures("tree")
def test_a_file_that_vanishes_fails_alone(capsys, monkeypatch) -> None:
    real = sources.read_document

    def vanish(name: str, *how):  # type: ignore[no-untyped-def]
        if name.endswith("c.txt"):
            os.unlink(name)
        return real(name, *how)

    monkeypatch.setattr(sources, "read_document", vanish)
    found = statuses(capsys, "-r", "docs", "-o", "out/", code=3)
    assert [name for name, status in found.items() if status == "failed"] == ["docs/sub/c.txt"]


@pytest.mark.usefixtures("tree")
def test_a_folder_that_cannot_be_read_fails_alone(capsys, monkeypatch) -> None:
    real = os.scandir

    def refuse(folder):  # type: ignore[no-untyped-def]
        if str(folder) == "docs/sub":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read every folder
    expected = {"docs/a.txt": "ok", "docs/b.md": "ok", "docs/sub": "failed"}
    assert statuses(capsys, "-r", "docs", "-o", "out/", code=3) == expected
    assert run(["plan", "-r", "docs"]) == 3
    out, err = capsys.readouterr()
    assert "docs/a.txt" in out
    assert "docs/sub: permission denied" in err


def test_a_file_that_changes_while_it_is_read(tree: Path, capsys, monkeypatch) -> None:
    from goldfinch.text import documents

    path, calls, most = tree / "docs/a.txt", [0], [0]
    real = documents.read_named

    def grow(place: Path, *limits: int) -> bytes:
        data = real(place, *limits)
        if calls[0] < most[0]:
            calls[0] += 1
            with open(place, "a") as stream:
                stream.write("more ")
        return data

    monkeypatch.setattr(documents, "read_named", grow)
    for grows, warned in ((2, False), (99, True)):
        calls[0], most[0] = 0, grows
        read = documents.read_document(path)
        assert (read.remark is not None) == warned
        if not warned:
            assert read.text == path.read_text()
        assert read.source["bytes"] == len(read.text.encode())
    assert run(["prefill", "docs/a.txt"]) == 0
    assert "changed while it was read" in capsys.readouterr().err
    assert run(["status", "--fail-stale", "docs/a.gfc"]) == 10  # and the cache is known to lag behind


@pytest.mark.usefixtures("tree")
def test_into_the_library(capsys) -> None:
    assert set(statuses(capsys, "-r", "docs", "--library").values()) == {"ok"}
    assert set(statuses(capsys, "-r", "docs", "--library").values()) == {"fresh"}
    assert run(["ask", "docs/sub/c.txt", "--require-cached", "-n", "2", "What?"]) == 0
    assert run(["prefill", "docs/a.txt", "--library", "-o", "x.gfc"]) == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_batch_goes_on(tree: Path, number: int) -> None:
    for n in range(60):
        (tree / f"docs/many{n}.txt").write_text(f"{n} {TEXT[:4000]}")
    command = [sys.executable, "-m", "gfcli", "prefill", "-r", "docs", "-o", "out/", "--jsonl"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(number)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode in (-9, 130, 143)
    assert not [path for path in (tree / "out").rglob("*.tmp")] or number == signal.SIGKILL
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [json.loads(line)["status"] for line in done.stdout.splitlines()]
    assert len(found) == 65
    assert 5 <= found.count("fresh") < 65
    assert "Traceback" not in done.stderr
    for path in (tree / "out").rglob("*.gfc"):
        gfcache.verify_cache(path)
    assert not [path.name for path in (tree / "out").rglob(".*")]


@pytest.mark.parametrize("both", [False, True], ids=["stderr", "stdout and stderr"])
def test_progress_of_a_batch_on_a_terminal(tree: Path, both: bool) -> None:
    import pty

    for n in range(10 if both else 30):
        (tree / f"docs/many{n}.txt").write_text(f"{n} {TEXT * 2}")
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gfcli", "prefill", "-r", "docs", "-o", "out/"],
        stdout=child if both else subprocess.PIPE, stderr=child, text=True,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(child)
    seen = b""
    while True:
        try:
            piece = os.read(parent, 4096)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(parent)
    out = process.communicate()[0]
    assert process.returncode == 0
    if both:  # paths on lines of their own, from which the bar was erased
        assert seen.count(b"\r\x1b[2Kout/many") == 10
        assert seen.count(b"out/many") == 10
        return
    assert len(out.split()) == 35
    assert b"/35 documents" in seen
    assert b"0:00:" in seen  # time left
    assert b"35 pre-filled" in seen


def test_a_closed_pipe_ends_a_batch(tree: Path) -> None:
    for n in range(40):
        (tree / f"docs/many{n}.txt").write_text(f"{n} {TEXT[:3000]}")
    process = subprocess.Popen(
        [sys.executable, "-m", "gfcli", "prefill", "-r", "docs", "-o", "out/", "--jsonl"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(PATIENCE_S) == 0
    assert b"rror" not in err
    assert not list((tree / "out").rglob(".*"))


def test_tokenised_ahead_of_their_turn(tree: Path, capsys, monkeypatch) -> None:
    """As for another device: the same caches, in the same order, and the same errors."""
    for n in range(12):
        (tree / f"docs/many{n:02}.txt").write_text(f"{n} {TEXT[: 100 * n + 50]}")
    alone = statuses(capsys, "-r", "docs", "-o", "alone/")
    monkeypatch.setattr(Batch, "overlaps", True)
    before = threading.active_count()
    assert statuses(capsys, "-r", "docs", "docs/empty.txt", "-o", "ahead/", code=3) == alone | {
        "docs/empty.txt": "failed"
    }
    assert list(statuses(capsys, "-r", "docs", "-o", "ahead/")) == list(alone)
    assert threading.active_count() == before
    for status in ("ok", "fresh"):  # standard input is read once
        stdin = io.TextIOWrapper(io.BytesIO(TEXT[:300].encode()))
        monkeypatch.setattr(sys, "stdin", stdin)
        assert statuses(capsys, "-", "--library") == {"-": status}
    assert below(tree / "ahead") == below(tree / "alone")
    for name in below(tree / "alone"):
        assert run(["diff", f"alone/{name}", f"ahead/{name}"]) == 0


def test_ignore_files_above_the_folder_count_in_a_repository(tree: Path, capsys) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    (tree / ".gitignore").write_text("b.md\n")
    assert "docs/b.md" not in statuses(capsys, "-r", "docs", "-o", "out/")


@pytest.mark.parametrize("is_read_ahead", [False, True])
@pytest.mark.parametrize("is_slow", [False, True])
def test_two_names_of_one_output(tree: Path, capsys, monkeypatch, is_read_ahead: bool, is_slow: bool) -> None:
    """Computed once, however late its file is written."""
    (tree / "link").symlink_to(tree / "docs")
    computed, save = [], destinations.save

    def counted(job: Job) -> Report:
        computed.append(job.source.name)
        time.sleep(0.5 if is_slow else 0.0)
        return save(job)

    monkeypatch.setattr(destinations, "save", counted)
    monkeypatch.setattr(Batch, "overlaps", is_read_ahead)
    for again in ((), ("--force",)):
        computed.clear()
        found = statuses(capsys, "docs/a.txt", "link/a.txt", *again)
        assert found == {"docs/a.txt": "ok", "link/a.txt": "fresh"}
        assert computed == ["docs/a.txt"]
    assert statuses(capsys, "docs/a.txt", "link/a.txt") == {"docs/a.txt": "fresh", "link/a.txt": "fresh"}
    assert "a.gfc" in below(tree / "docs")
    assert "a.txt.gfc" not in below(tree / "docs")


@pytest.mark.usefixtures("tree")
def test_no_color_and_quiet() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gfcli", "prefill", "docs/a.txt", "-q"], capture_output=True, check=True,
        env=os.environ | {"NO_COLOR": "1"},
    )  # fmt: skip
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"tok/s" not in done.stderr


def test_documents_that_another_run_writes_are_waited_for_and_a_single_one_is_not(folder: Path, capsys) -> None:
    (folder / "a.txt").write_text("Another text.")
    with open(folder / ".a.gfc.lock", "w") as other:  # as another process would hold it
        fcntl.flock(other, fcntl.LOCK_EX)
        assert run(["prefill", "a.txt", "-m", "tiny"]) == 9
        for wait in ("0", "1s"):
            capsys.readouterr()
            assert run(["prefill", "a.txt", "b.txt", "-m", "tiny", "--checkpoints", "512", "--lock-wait", wait]) == 3
            out, err = capsys.readouterr()
            assert out == "b.gfc\n"
            assert ("waiting for a document that another run is writing" in err) == (wait != "0")
            assert "failed: a.txt (exit 9)" in err
        threading.Timer(1.0, other.close).start()
        assert run(["prefill", "a.txt", "b.txt", "-m", "tiny", "--checkpoints", "512"]) == 0
    assert run(["prefill", "a.txt", "--lock-wait", "soon"]) == 2


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/0", "1/2/3", "-1/2", "1/999999"])
def test_parts_that_do_not_exist(capsys, shard: str) -> None:
    assert run(["prefill", "-r", ".", f"--shard={shard}"]) == 2
    assert "--shard is" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_a_part_of_the_documents(capsys) -> None:
    parts = []
    for shard in ("1/4", "2/4", "3/4", "4/4"):
        assert run(["prefill", "-r", ".", "-m", "tiny", "--checkpoints", "512", "--shard", shard]) == 0
        parts.append(capsys.readouterr().out.split())
    assert parts == [["a.gfc"], ["b.gfc"], ["c.gfc"], []]
