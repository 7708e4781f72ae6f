"""gf ask --questions: documents times questions."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gfcache
import jsonschema
import pytest

import goldfinch
from gfcli.app import run
from gfcli.support.question_file import default_id
from goldfinch.engine import batch_decode as batching
from goldfinch.weights import loading
from tests.conftest import SAMPLES
from tests.cpu_time import PATIENCE_S
from tests.schemas import schema
from tests.tolerances import BATCH_FP32

TEXT = (SAMPLES / "four-freedoms-1941.txt").read_text()
QUESTIONS = ["What?", "Who spoke to the Congress, and when?", "Why?", "Which freedoms are named?", "How many years?"]


@pytest.fixture
def kb(work: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Three caches and five questions."""
    for n, name in enumerate("abc"):
        (work / f"{name}.txt").write_text(TEXT[n * 1000 : n * 1000 + 2500])
    assert run(["prefill", "a.txt", "b.txt", "c.txt", "-o", "kb/", "-q"]) == 0
    (work / "q.txt").write_text("\n".join(QUESTIONS) + "\n\n")
    capsys.readouterr()
    return work


def rows(capsys, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run(["ask", "--cache", "kb/*.gfc", "-n", "6", "--jsonl", *arguments]) == code
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for row in found:
        jsonschema.validate(row, schema("answers"))
    return found


@pytest.mark.usefixtures("kb")
def test_every_document_is_asked_every_question_in_order(capsys) -> None:
    found = rows(capsys, "--questions", "q.txt")
    expected = [(f"kb/{d}.gfc", default_id(question)) for d in "abc" for question in QUESTIONS]
    assert [(row["document"], row["id"]) for row in found] == expected
    for row in found:
        assert run(["ask", "--cache", row["document"], "-n", "6", "--json", row["question"]]) == 0
        assert json.loads(capsys.readouterr().out)["answer"] == row["answer"]


@pytest.mark.usefixtures("kb")
def test_verbose_says_how_documents_are_attended_to(capsys) -> None:
    assert run(["ask", "--cache", "kb/*.gfc", "-n", "2", "--questions", "q.txt", "-v"]) == 0
    assert capsys.readouterr().err.count("keys and values of the document are kept") == 3


def test_questions_may_name_their_documents(kb: Path, capsys) -> None:
    lines = [
        {"id": "x", "question": "What?", "documents": ["a.txt", "kb/c.gfc"]},
        {"question": "Who?", "document": "b"},
        {"id": "all", "question": "Why?"},
    ]
    (kb / "q.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    found = [(Path(row["document"]).stem, row["id"]) for row in rows(capsys, "--questions", "q.jsonl")]
    who = default_id("Who?")
    assert found == [("a", "x"), ("a", "all"), ("b", who), ("b", "all"), ("c", "x"), ("c", "all")]


@pytest.mark.usefixtures("kb")
def test_a_model_is_loaded_once(capsys, monkeypatch) -> None:
    loads = []
    real = loading.load_model
    monkeypatch.setattr(loading, "load_model", lambda *a, **k: loads.append(a) or real(*a, **k))
    rows(capsys, "--questions", "q.txt")
    assert len(loads) == 1


def test_one_failing_document_does_not_stop_the_rest(kb: Path, capsys) -> None:
    (kb / "kb/b.gfc").write_bytes(b"no cache")
    found = rows(capsys, "--questions", "q.txt", code=3)
    assert [row["status"] for row in found] == ["ok"] * 5 + ["failed"] * 5 + ["ok"] * 5
    assert {row["error"]["code"] for row in found[5:10]} == {6}


def test_a_cut_run_goes_on(kb: Path, capsys, monkeypatch) -> None:
    whole = rows(capsys, "--questions", "q.txt")
    assert rows(capsys, "--questions", "q.txt", "-o", "a.jsonl") == []
    lines = (kb / "a.jsonl").read_text().splitlines(keepends=True)
    assert [json.loads(line)["answer"] for line in lines] == [row["answer"] for row in whole]
    (kb / "a.jsonl").write_text("".join(lines[3:9]) + lines[9][:40])  # some missing before, one cut
    asked: list[str] = []
    real = batching.ask_many
    monkeypatch.setattr(batching, "ask_many", lambda s, q, **k: asked.extend(q) or real(s, q, **k))
    rows(capsys, "--questions", "q.txt", "-o", "a.jsonl")
    assert len(asked) == 9
    again = [json.loads(line) for line in (kb / "a.jsonl").read_text().splitlines()]
    assert [(r["document"], r["id"], r["answer"]) for r in again] == [
        (r["document"], r["id"], r["answer"]) for r in whole
    ]
    asked.clear()
    (kb / "b.txt").write_text("Something else. " * 40)
    assert run(["prefill", "b.txt", "-o", "kb/", "-q"]) == 0
    rows(capsys, "--questions", "q.txt", "-o", "a.jsonl")
    assert len(asked) == 5  # those of the document that changed


def test_no_good_answer_is_lost(kb: Path, capsys, monkeypatch) -> None:
    """Those of other documents, questions and options stay until a new answer to the same question is there."""

    def answers() -> list[dict[str, Any]]:
        return [json.loads(line) for line in (kb / "a.jsonl").read_text().splitlines()]

    rows(capsys, "--questions", "q.txt", "-o", "a.jsonl")
    all_of_them = answers()
    assert run(["ask", "--cache", "kb/b.gfc", "-n", "6", "--questions", "q.txt", "--jsonl", "-o", "a.jsonl"]) == 0
    assert len(answers()) == 15
    assert "keeps 10 answers" in capsys.readouterr().err
    (kb / "one.txt").write_text("Another question?")
    rows(capsys, "--questions", "one.txt", "-o", "a.jsonl")
    assert len(answers()) == 18
    rows(capsys, "--questions", "q.txt", "-o", "a.jsonl", "-m", "nosuch", code=3)
    assert [row for row in all_of_them if row not in answers()] == []
    rows(capsys, "--questions", "q.txt", "-o", "a.jsonl")
    assert answers()[:15] == all_of_them
    assert len(answers()) == 18
    rows(capsys, "--questions", "q.txt", "-o", "a.jsonl", "--temperature", "0.5", "--seed", "1")
    assert len(answers()) == 18  # renewed, not doubled

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = answers()
    monkeypatch.setattr(batching, "ask_many", interrupted)
    rows(capsys, "--questions", "q.txt", "-o", "a.jsonl", "-n", "3", code=130)
    assert sorted(row["key"] for row in answers()) == sorted(row["key"] for row in before)


@pytest.mark.parametrize("name", ["q.jsonl", "link.jsonl", "foreign.jsonl", "mixed.jsonl", "folder"])
def test_a_file_that_holds_anything_but_answers_stays(kb: Path, capsys, name: str) -> None:
    line = json.dumps({"id": "z", "question": "What?"}) + "\n"
    for other in ("q.jsonl", "foreign.jsonl"):
        (kb / other).write_text(line)
    (kb / "link.jsonl").symlink_to("q.jsonl")
    rows(capsys, "--questions", "q.jsonl", "-o", "mixed.jsonl")
    with open(kb / "mixed.jsonl", "a") as stream:
        stream.write(line)
    (kb / "folder").mkdir()
    before = {path: path.read_bytes() for path in kb.glob("*.jsonl")}
    rows(capsys, "--questions", "q.jsonl", "-o", name, code=2)
    assert {path: path.read_bytes() for path in kb.glob("*.jsonl")} == before


def test_failures_are_asked_again(kb: Path, capsys) -> None:
    good = (kb / "kb/b.gfc").read_bytes()
    (kb / "kb/b.gfc").write_bytes(b"no cache")
    rows(capsys, "--questions", "q.txt", "-o", "a.jsonl", code=3)
    (kb / "kb/b.gfc").write_bytes(good)
    rows(capsys, "--questions", "q.txt", "-o", "a.jsonl")
    found = [json.loads(line) for line in (kb / "a.jsonl").read_text().splitlines()]
    assert [row["status"] for row in found] == ["ok"] * 15


def test_a_killed_run_leaves_whole_lines_and_goes_on(kb: Path) -> None:
    (kb / "many.txt").write_text("\n".join(f"Question {n}?" for n in range(150)))
    command = [
        sys.executable,
        "-m",
        "gfcli",
        "ask",
        "--cache",
        "kb/*.gfc",
        "-n",
        "8",
        "--jsonl",
        "--questions",
        "many.txt",
        "-o",
        "x.jsonl",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    while not (kb / "x.jsonl").exists() or (kb / "x.jsonl").stat().st_size == 0:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.communicate()
    before = [json.loads(line)["key"] for line in (kb / "x.jsonl").read_text().splitlines()]
    assert 0 < len(before) < 450
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f", {len(before)} of them reused" in done.stderr
    after = [json.loads(line)["key"] for line in (kb / "x.jsonl").read_text().splitlines()]
    assert len(set(after)) == 450
    assert set(before) < set(after)
    assert [path.name for path in kb.iterdir() if path.name.startswith(".x")] == []


def test_a_closed_pipe_ends_quietly(kb: Path) -> None:
    (kb / "many.txt").write_text("\n".join(f"Question {n}?" for n in range(200)))
    command = [
        sys.executable,
        "-m",
        "gfcli",
        "ask",
        "--cache",
        "kb/*.gfc",
        "-n",
        "8",
        "--jsonl",
        "--questions",
        "many.txt",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(PATIENCE_S) == 0
    assert b"rror" not in err


def test_wrong_question_files(kb: Path, capsys) -> None:
    ask = ["ask", "--cache", "kb/*.gfc", "--jsonl"]
    for text, code in (
        ("", 2), ("\n\n", 2), ('{"question": ""}', 2), ('{"x": 1}', 2), ("{bad", 2), ('{"question": "a", "documents": 3}', 2),
        ('{"question": "a", "documents": []}', 2), ('{"id": true, "question": "a"}', 2), ('{"id": 1.5, "question": "a"}', 2),
        ("What?\n[\"Who?\"]", 2), ("[]", 2), ("[3]", 2), ("[[\"Who?\"]]", 2), ('{"question": "a", "documents": ["zzz"]}', 2), ('{"id": 1, "question": "a"}\n{"id": 1, "question": "b"}', 2),
    ):  # fmt: skip
        (kb / "bad.jsonl").write_text(text)
        assert run([*ask, "--questions", "bad.jsonl"]) == code, text
        out, err = capsys.readouterr()
        assert out == ""
        assert "message" in err
    assert run([*ask, "--questions", "absent"]) == 4
    assert run(["ask", "--cache", "zz*.gfc", "--questions", "q.txt"]) == 4
    assert run(["ask", "--questions", "q.txt"]) == 2
    assert run([*ask, "--questions", "q.txt", "-o", "a.txt"]) == 2  # another person's file
    assert (kb / "a.txt").read_text() == TEXT[:2500]
    assert run(["ask", "--cache", "kb/a.gfc", "--questions", "q.txt", "-o", "x"]) == 2


def test_what_a_line_may_hold_and_what_is_not_used(kb: Path, capsys) -> None:
    (kb / "q.jsonl").write_text('{"id": null, "question": "What?", "docs": ["a"]}\n{"id": 0, "question": "Who?"}')
    assert run(["ask", "--cache", "kb/a.gfc", "-n", "1", "--questions", "q.jsonl", "--jsonl"]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["id"] for line in out.splitlines()] == [default_id("What?"), 0]
    assert "q.jsonl: ignored: docs" in err
    for options in (["--cite"], ["-u"], ["-u", "--jsonl"]):
        assert run(["ask", "--cache", "kb/a.gfc", "--questions", "q.jsonl", *options]) == 2
        assert "--questions" in capsys.readouterr().err


@pytest.mark.usefixtures("kb")
def test_one_question_to_a_pattern(capsys) -> None:
    assert run(["ask", "--cache", "kb/a*.gfc", "-n", "1", "What is freedom?"]) == 0
    assert run(["ask", "--cache", "kb/*.gfc", "-n", "1", "What is freedom?"]) == 0
    assert "[" in capsys.readouterr().out
    assert run(["ask", "--cache", "kb/z*.gfc", "-n", "1", "What?"]) == 4


def test_questions_in_other_encodings(kb: Path, capsys, monkeypatch) -> None:
    text = "Who wrote caf\xe9?\r\n" + json.dumps({"question": "One\u2028line?"}, ensure_ascii=False)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252"):
        data = text.replace("\u2028", " " if encoding == "cp1252" else "\u2028").encode(encoding)
        (kb / "q.jsonl").write_bytes(data)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        for name in ("q.jsonl", "-"):
            found = [row["question"] for row in rows(capsys, "--questions", name)]
            assert found[0] == "Who wrote caf\xe9?"
            assert found[1] == "One\u2028line?" or encoding == "cp1252"
            assert len(found) == 6
    (kb / "q.pdf").write_bytes(b"%PDF-1.7")
    rows(capsys, "--questions", "q.pdf", code=2)


@pytest.mark.usefixtures("kb")
def test_a_document_of_the_library_is_asked_many_questions(capsys) -> None:
    assert run(["ask", "a.txt", "--questions", "q.txt", "-n", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[:3] for line in lines] == [["a.txt", default_id(asked), asked] for asked in QUESTIONS]


@pytest.mark.parametrize("memory_bytes", [1 << 30, 0])
def test_batched_logits_are_those_of_one_by_one(tiny_model: Path, memory_bytes: int) -> None:
    """Step by step, the logits of every row equal those of its own sequence within rounding."""
    model = goldfinch.load_model(tiny_model)
    ids, span = goldfinch.document_token_ids(model, TEXT[:3000])
    session = goldfinch.Session(model, goldfinch.prefill(model, ids, document_range=span), memory_bytes=memory_bytes)
    import torch

    with torch.no_grad():
        starts = [session.start(session.question_token_ids(q)) for q in QUESTIONS]
        singles, batch = [state for _, state in starts], batching._Batch.of(model, [state for _, state in starts])
        tokens = [int(logits.argmax()) for logits, _ in starts]
        alive = list(range(len(tokens)))
        for step in range(6):
            batched, batch = batch.step(torch.tensor([[tokens[i]] for i in alive]))
            for row, i in enumerate(alive):
                logits, singles[i] = model(torch.tensor([[tokens[i]]]), singles[i])
                single = logits[0, -1]
                assert (batched[row] - single).abs().max() <= BATCH_FP32 * single.abs().max()
                tokens[i] = int(single.argmax())
            if step % 2:
                batch, alive = batch.keep(list(range(1, len(alive)))), alive[1:]


@pytest.mark.slow
def test_batched_answers_of_the_shipped_model_are_those_of_one_by_one() -> None:
    model = goldfinch.load_model()
    questions = [json.loads(line)["question"] for line in (SAMPLES / "questions.jsonl").read_text().splitlines()]
    ids, span = goldfinch.document_token_ids(model, (SAMPLES / "warehouse-register.txt").read_text())
    session = goldfinch.Session(model, goldfinch.prefill(model, ids, document_range=span))
    together = batching.ask_many(session, questions, max_tokens=24)
    for question, answer in zip(questions, together, strict=True):
        assert session.ask(question, max_tokens=24).token_ids == answer.token_ids


def asked(capsys, *arguments: str) -> tuple[list[dict[str, Any]], str]:
    capsys.readouterr()
    assert run(["ask", "-n", "4", "--questions", "q.txt", "--jsonl", "-o", "out.jsonl", *arguments]) == 0
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    return rows, capsys.readouterr().err


def test_another_text_from_stdin_is_asked_anew(kb: Path, capsys, monkeypatch) -> None:
    for name, earlier in (("a.txt", 0), ("b.txt", 0), ("b.txt", 5)):
        data = io.TextIOWrapper(io.BytesIO((kb / name).read_bytes()))
        monkeypatch.setattr(sys, "stdin", data)
        _, err = asked(capsys, "-")
        assert ("of them reused" in err) == bool(earlier)
    assert run(["ask", "-", "--questions", "-"]) == 2


def test_another_model_answers_anew(kb: Path, other_model: Path, tiny_model: Path, capsys, monkeypatch) -> None:
    first, _ = asked(capsys, "a.txt")
    (kb.parent / "user-models" / "other").symlink_to(other_model)
    monkeypatch.setenv("GF_MODEL", "other")
    second, err = asked(capsys, "a.txt")
    assert "reused" not in err
    assert [row["answer"] for row in first] != [row["answer"] for row in second]
    monkeypatch.setenv("GF_DTYPE", "bfloat16")
    assert "reused" not in asked(capsys, "a.txt")[1]
    assert "5 of them reused" in asked(capsys, "a.txt", "--dtype", "bf16")[1]
    # The folder of -m holds other weights by now.
    model = kb / "mine"
    for source in (tiny_model, other_model):
        model.unlink(missing_ok=True)
        model.symlink_to(source)
        assert "reused" not in asked(capsys, "a.txt", "-m", "./mine")[1]


@pytest.mark.usefixtures("kb")
def test_what_had_to_be_computed_is_counted_once(capsys) -> None:
    counts = [row["document_tokens_computed"] for row in asked(capsys, "a.txt")[0]]
    assert counts[0] > 0
    assert counts[1:] == [0] * 4


@pytest.mark.usefixtures("kb")
def test_one_command_writes_a_file_of_answers_at_a_time(capsys) -> None:
    asked(capsys, "a.txt")
    before = Path("out.jsonl").read_bytes()
    command = [sys.executable, "-m", "gfcli", "ask", "b.txt", "--questions", "q.txt", "--jsonl", "-o", "out.jsonl"]
    with gfcache.output_lock("out.jsonl"):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 9
    assert "out.jsonl" in done.stderr
    assert Path("out.jsonl").read_bytes() == before


def test_a_link_to_answers_stays_and_new_files_are_private(kb: Path, capsys) -> None:
    mask = os.umask(0o027)
    try:
        (kb / "far").mkdir()
        os.symlink("far/answers.jsonl", "out.jsonl")
        assert len(asked(capsys, "a.txt")[0]) == 5
    finally:
        os.umask(mask)
    assert Path("out.jsonl").is_symlink()
    assert (kb / "far/answers.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("kb")
def test_a_cache_is_asked_whatever_it_is_called(capsys) -> None:
    os.rename("kb/a.gfc", "kb/a.cache")
    assert {row["document"] for row in asked(capsys, "--cache", "kb/a.cache")[0]} == {"kb/a.cache"}
