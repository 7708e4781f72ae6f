"""Files of answers and questions: cut lines, foreign content, limits, modes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gfcli.app import run
from gfcli.support import answers_file, question_file
from gfcli.support.exits import CommandError


@pytest.mark.parametrize(
    "end", [*(b'{"id": '[:n] for n in range(1, 8)), b"\0" * 100, b'{"id": "x", "doc' + bytes(4096), b'{"i\0\0']
)
def test_a_last_line_of_few_bytes_or_of_zeros_is_one_that_was_cut(tmp_path: Path, end: bytes) -> None:
    """As a kill, or a power cut, leaves it."""
    path = tmp_path / "a.jsonl"
    row = {"id": "1", "document": "d", "question": "q", "status": "ok", "key": "k", "answer": "a"}
    path.write_bytes(json.dumps(row).encode() + b"\n" + end)
    with answers_file.Answers(str(path), [], True):
        pass
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["k"]


@pytest.mark.parametrize("content", [b"notes", b'{"id": 1}\n', b"{" * 200_000, b'{"id": "x"}{\n'])
def test_a_file_that_does_not_hold_answers_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(CommandError, match="does not hold answers"), answers_file.Answers(str(path), [], True):
        pass
    assert path.read_bytes() == content


def test_a_new_file_of_answers_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        for name, mode in (("new", 0o600), ("old", 0o644)):
            path = tmp_path / name
            if name == "old":
                path.touch(0o644)
            with answers_file.Answers(str(path), [], True):
                pass
            assert path.stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)


def test_questions_have_limits(work: Path, capsys, monkeypatch) -> None:
    """200,000 brackets ended in a RecursionError; a line of 20,000 words had no end."""
    (work / "a.txt").write_text("Some text of some words.")
    assert run(["prefill", "a.txt", "-o", "kb/", "-q"]) == 0
    words = "word " * 20_000
    for question, said in ((words, "at most 65,536"), ("a b " * 5000, "tokens, at most 4,096")):
        assert run(["ask", "--cache", "kb/a.gfc", "-n", "1", question]) == 2
        assert said in capsys.readouterr().err
    for content, said in (
        ("{" * 200_000, "not JSON"), ('{"question":' + "[" * 200_000, "line 1"), ("x" * 2**21, "at most 1,048,576"),
    ):  # fmt: skip
        (work / "q.jsonl").write_text(content)
        assert run(["ask", "--cache", "kb/a.gfc", "--questions", "q.jsonl"]) == 2
        assert said in capsys.readouterr().err
    (work / "q.jsonl").write_text(f"{words}\nWhat?\n")
    assert run(["ask", "--cache", "kb/a.gfc", "-n", "1", "--jsonl", "--questions", "q.jsonl"]) == 3
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["status"] for row in found} == {"ok", "failed"}
    assert any(row["status"] == "failed" and "at most" in row["error"]["message"] for row in found)
    monkeypatch.setattr(question_file, "MOST_QUESTIONS", 1)
    assert run(["ask", "--cache", "kb/a.gfc", "--questions", "q.jsonl"]) == 2
    os.mkfifo(work / "pipe")
    assert run(["ask", "--cache", "kb/a.gfc", "--questions", "q.jsonl", "--jsonl", "-o", "pipe"]) == 2
    for device in ("/dev/zero", "/proc/self/environ"):
        assert run(["ask", "--cache", "kb/a.gfc", "--questions", device]) == 2


@pytest.mark.parametrize("part", ["document", "id", "question"])
def test_an_answer_to_something_that_is_no_text_is_foreign(tmp_path: Path, part: str) -> None:
    """A list there was a TypeError at the end of the run, and all its answers were lost."""
    path = tmp_path / "answers.jsonl"
    row = {"id": "1", "document": "a.gfc", "question": "What?", "status": "ok", "key": "k", "answer": "x"}
    content = json.dumps(row | {part: ["x"]}) + "\n"
    path.write_text(content)
    with pytest.raises(CommandError, match="does not hold answers"), answers_file.Answers(str(path), [], True):
        pass
    assert path.read_text() == content
