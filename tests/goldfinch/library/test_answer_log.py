"""The log of answers: private, bounded, whole lines, several writers at once, nothing but a file."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gfcache import output_lock
from gfcache.files.regular import NotRegular

from goldfinch.library.answer_log import MOST_CHARACTERS, AnswerLog
from tests.full_disk import files_of_at_most


def entry(n: int) -> dict[str, object]:
    return {
        "document": "a.txt",
        "model": "m",
        "question": f"question {n}?",
        "answer": f"answer {n}",
        "confidence": None,
    }


def questions(log: AnswerLog) -> list[str]:
    return [str(found["question"]) for found in log.entries()]


def test_what_is_noted_is_found_in_order_and_nobody_else_reads_it(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "new" / "log.jsonl")
    assert log.entries() == []
    for n in range(3):
        log.note(entry(n))
    assert questions(log) == [f"question {n}?" for n in range(3)]
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    log.path.chmod(0o644)
    log.note(entry(3))
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    log.clear()
    log.clear()
    assert log.entries() == []


def test_the_older_half_goes(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "log.jsonl", most_bytes=3000)
    for n in range(200):
        log.note(entry(n))
        assert log.path.stat().st_size <= 3000
        assert questions(log)[-1] == f"question {n}?"
    kept = questions(log)
    assert len(kept) >= 5
    assert kept == [f"question {n}?" for n in range(200 - len(kept), 200)]
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_what_a_killed_run_left_goes_when_the_older_half_does(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "log.jsonl", most_bytes=3000)
    (tmp_path / ".log.jsonl.gf-12-abcd_123.tmp").write_text("questions and answers")
    (tmp_path / ".log.jsonl.lock").touch()
    for n in range(40):
        log.note(entry(n))
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "log.jsonl", most_bytes=3000)
    for n in range(10):
        log.note(entry(n))
    with files_of_at_most(log.path.stat().st_size), pytest.raises(OSError, match="File too large"):
        log.note(entry(10))
    with output_lock(log.path):
        for n in range(40, 44):
            log.note(entry(n))
    assert questions(log)[-1] == "question 43?"


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "log.jsonl")
    log.note(entry(0) | {"answer": "x" * (MOST_CHARACTERS + 5)})
    assert len(log.entries()[0]["answer"]) == MOST_CHARACTERS


@pytest.mark.parametrize("rest", [b'{"time": "2026', b"\xff\xfe", b"[" * 100_000, b"[1]\n", b'{"time": 3}\n\n'])
def test_what_is_no_entry_is_left_out(rest: bytes, tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "log.jsonl")
    log.note(entry(0))
    with log.path.open("ab") as stream:
        stream.write(rest)
    log.note(entry(1))
    assert questions(log) == ["question 0?", "question 1?"]


def test_several_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: AnswerLog(path, most_bytes=20_000).note(entry(n)), range(300)))
    for line in path.read_text().splitlines():
        assert json.loads(line)["model"] == "m"
    assert len(AnswerLog(path).entries()) > 50
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: AnswerLog(tmp_path / "large.jsonl").note(entry(n)), range(300)))
    assert sorted(questions(AnswerLog(tmp_path / "large.jsonl"))) == sorted(f"question {n}?" for n in range(300))


def test_nothing_but_a_file_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(NotRegular):
            AnswerLog(tmp_path / name).note(entry(0))
        with pytest.raises(NotRegular):
            AnswerLog(tmp_path / name).entries()
    assert (tmp_path / "target").read_text() == "mine"
