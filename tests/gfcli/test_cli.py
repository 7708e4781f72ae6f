"""The command line: exit codes, clean stdout, clear words, nothing half-written."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import gfcache
import jsonschema
import pytest
import torch

from gfcli.app import run
from gfcli.support import exits
from tests.gfcli.conftest import TEXT
from tests.schemas import schema


def test_prefill_then_ask(document: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prefill", str(document), "-m", str(tiny_model)]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(document.with_suffix(".gfc"))
    assert "tok/s" in err
    arguments = ["ask", "--cache", out.strip(), "-m", str(tiny_model), "-n", "5"]
    assert run([*arguments, "What?"]) == 0
    streamed, err = capsys.readouterr()
    assert err == ""
    assert run([*arguments, "--no-stream", "What?"]) == 0
    assert capsys.readouterr().out == streamed


def test_ask_json(cache: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = cache.read_bytes()
    arguments = ["ask", "--cache", str(cache), "-m", str(tiny_model), "-n", "5", "--json", "What is it?"]
    assert run(arguments) == 0
    first = json.loads(capsys.readouterr().out)
    jsonschema.validate(first, schema("ask"))
    assert first["document_tokens_computed"] == 0
    assert first["document_tokens_cached"] == gfcache.inspect_cache(cache)["tokens"]
    assert first["tail_tokens_replayed"] == 0  # the question is long enough
    assert first["generated_tokens"] <= 5
    assert cache.read_bytes() == before
    assert run([*arguments, "--memory", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == first["answer"]


def test_other_numerics_are_reported_and_strict_refuses_them(
    cache: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["ask", "--cache", str(cache), "-m", str(tiny_model), "-n", "2", "Who?"]
    assert run([*arguments, "--strict"]) == 0
    assert capsys.readouterr().err == ""
    assert run([*arguments, "--dtype", "bfloat16"]) == 0
    assert capsys.readouterr().err == ""  # it is so at every question: only who looks for it is told
    assert run([*arguments, "--dtype", "bfloat16", "-v"]) == 0
    assert "compute_dtype f32" in capsys.readouterr().err
    assert run([*arguments, "--dtype", "bfloat16", "--strict"]) == 5
    assert "compute_dtype" in capsys.readouterr().err


def test_a_damaged_cache_is_not_fresh(cache: Path, document: Path, tiny_model: Path, capsys) -> None:
    """What gf ask refuses, gf prefill makes again: the hint of the refusal leads somewhere."""
    prefill = ["prefill", str(document), "-m", str(tiny_model)]
    data = bytearray(cache.read_bytes())
    data[-100] ^= 1
    cache.write_bytes(data)
    assert run(["ask", "--cache", str(cache), "-m", str(tiny_model), "What?"]) == 6
    assert run(prefill) == 0
    assert "R14" in capsys.readouterr().err
    gfcache.verify_cache(cache)
    data[200] ^= 1  # in the header: the file no longer says whose it is
    cache.write_bytes(data)
    assert run(prefill) == 2
    assert "--force" in capsys.readouterr().err
    assert run([*prefill, "--force"]) == 0
    gfcache.verify_cache(cache)
    assert sorted(p.name for p in cache.parent.glob("*.gfc")) == ["doc.gfc"]


def test_sampling_with_a_seed_repeats(cache: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = set()
    for seed in ("1", "1", "2"):
        arguments = ["ask", "--cache", str(cache), "-m", str(tiny_model), "-n", "8", "--temperature", "1.5"]
        assert run([*arguments, "--top-p", "0.9", "--top-k", "50", "--seed", seed, "--raw", "x"]) == 0
        answers.add(capsys.readouterr().out)
    assert len(answers) == 2


def test_question_from_stdin(
    cache: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["ask", "--cache", str(cache), "-m", str(tiny_model), "-n", "3"]
    assert run([*arguments, "Who?"]) == 0
    expected = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO("Who?\n"))
    assert run(arguments) == 0
    assert capsys.readouterr().out == expected
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    assert run(arguments) == 2


def test_usage_goes_to_stderr(cache: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ask", "--cache", str(cache), "-m", str(tiny_model), "-n", "3", "-u", "Who?"]) == 0
    assert "document tokens from the cache, 0 computed" in capsys.readouterr().err


def test_inspect(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "--json", str(cache)]) == 0
    summary = json.loads(capsys.readouterr().out)
    jsonschema.validate(summary, schema("inspect"))
    assert summary["bytes_total"] == cache.stat().st_size
    assert summary["source"]["name"] == "doc.txt"
    assert run(["inspect", str(cache)]) == 0
    text = capsys.readouterr().out
    assert f"{summary['tokens']:,}" in text
    assert "compressed_k" in text


def test_several_files_are_an_array_or_lines(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cache.parent / "bad.gfc").write_bytes(b"x")
    files = [str(cache), str(cache.parent / "bad.gfc"), str(cache)]
    for command, name in (("inspect", "path"), ("verify", "path")):
        for option in ("--json", "--jsonl"):
            assert run([command, option, *files]) == 3
            out = capsys.readouterr().out
            found = json.loads(out) if option == "--json" else [json.loads(line) for line in out.splitlines()]
            assert [row[name] for row in found] == list(dict.fromkeys(files))
        assert run([command, "--jsonl", files[0]]) == 0
        assert json.loads(capsys.readouterr().out)[name] == files[0]
        assert run([command, "--json", "--jsonl", files[0]]) == 2


def test_raw_bytes_equal_the_arithmetic_of_the_configuration(cache: Path) -> None:
    summary = gfcache.inspect_cache(cache)
    config, tokens = summary["model"]["config"], summary["tokens"]
    width, finch, gold = config["d_model"], 2, 1
    expected = {
        "token_ids": 2 * tokens,
        "compressed_k/0": tokens * width // 16 * 4,
        "wkv_state": finch * width * 64 * 4,
        "time_shift_state": finch * width * 4,
        "channel_shift_state": finch * width * 4,
        "tail_hidden": (2 * gold + 1) * width * 4,
    }
    found = {s["name"]: s["raw_bytes"] for s in summary["sections"]}
    assert found.pop("row_digests") == (tokens + 1023) // 1024 * 32
    assert found.pop("document_index") <= 8 * tokens + 4096
    assert found == expected


def test_many_documents(document: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.txt"
    other.write_text(TEXT[::-1])
    names = [str(document), str(tmp_path / "missing.txt"), str(other)]
    out = f"{tmp_path}/caches/"
    assert run(["prefill", *names, "-o", out, "-m", str(tiny_model), "--jsonl"]) == 3
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    for row in rows:
        jsonschema.validate(row, schema("prefill"))
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert rows[1]["error"]["code"] == 4
    assert "missing.txt" in rows[1]["error"]["message"]
    assert {p.name for p in (tmp_path / "caches").iterdir()} == {"doc.gfc", "other.gfc"}
    assert run(["prefill", *names, "-o", out, "-m", str(tiny_model)]) == 3
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 2
    assert "missing.txt" in captured.err
    assert "1 of 3" in captured.err


def test_memory_that_a_device_lacks_is_no_bug() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert exits.exit_code(error) == exits.MEMORY_DEVICE_DISK == 8
    assert exits.describe(error)[0].startswith("CUDA out of memory")
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60)
    assert exits.exit_code(raised.value) == exits.MEMORY_DEVICE_DISK
    assert exits.describe(raised.value)[0] == f"not enough memory for {4 << 60:,} bytes"


def test_an_edited_document_goes_on_from_a_checkpoint(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, cold = tmp_path / "doc.txt", tmp_path / "cold"
    path.write_text(TEXT)
    arguments = ["-m", str(tiny_model), "--checkpoints", "512", "--jsonl"]
    assert run(["prefill", str(path), *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["tokens_reused"] == 0
    path.write_text(TEXT + " And more of it.")
    assert run(["prefill", str(path), *arguments]) == 0
    row = json.loads(capsys.readouterr().out)
    assert 0 < row["tokens_reused"] == (row["tokens"] - 1) // 512 * 512
    assert run(["prefill", str(path), *arguments, "-o", f"{cold}/"]) == 0
    capsys.readouterr()
    with gfcache.read_cache(tmp_path / "doc.gfc") as a, gfcache.read_cache(cold / "doc.gfc") as b:
        assert [s.sha256 for s in a.header.sections] == [s.sha256 for s in b.header.sections]
    assert run(["prefill", str(path), *arguments, "--checkpoints", "lots"]) == 2


BAD_DOCUMENTS = [
    ("empty", b"", "empty"),
    ("blank", b" \n\t\n", "empty"),
    ("paper.pdf", b"%PDF-1.7\n%\xe2\xe3", "PDF"),
    ("page.html", b"  <!DOCTYPE html><html><body>x</body></html>", "HTML"),
    ("page2.html", b"<HTML><p>x", "HTML"),
    ("noise.bin", bytes(range(256)) * 20, "binary"),
    ("archive.zip", b"PK\x03\x04\x14\0\0\0\x08\0", "ZIP"),
]


@pytest.mark.parametrize(("name", "data", "word"), BAD_DOCUMENTS, ids=[row[0] for row in BAD_DOCUMENTS])
def test_documents_that_are_not_text(
    name: str, data: bytes, word: str, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr("goldfinch.text.converters.is_installed", lambda kind: False)  # the extra reads some of them
    path = tmp_path / name
    path.write_bytes(data)
    assert run(["prefill", str(path), "-m", str(tiny_model)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert word in err
    assert "Traceback" not in err
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == [name]


def test_other_encodings(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.txt"
    path.write_bytes("Café à la crème, coûte 5 €".encode("cp1252"))
    assert run(["prefill", str(path), "-m", str(tiny_model)]) == 0
    assert "not UTF-8" in capsys.readouterr().err
    tokens = set()
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        path.write_bytes("Привет, 你好".encode(encoding))
        assert run(["prefill", str(path), "-m", str(tiny_model)]) == 0
        assert "not UTF-8" not in capsys.readouterr().err
        with gfcache.read_cache(path.with_suffix(".gfc")) as file:
            tokens.add(file.header.tokens)
    assert len(tokens) == 1
    path.write_bytes(b"\xff\xfea\0\0\0b\0")
    assert run(["prefill", str(path), "-m", str(tiny_model)]) == 2


def test_bad_arguments(
    cache: Path, document: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask, fill = ["ask", "--cache", str(cache), "-m", str(tiny_model)], ["prefill", "-m", str(tiny_model)]
    cases = [
        ([], 2), (["nonsense"], 2), (["ask", "Who?"], 2), ([*ask, "--bogus", "Who?"], 2), ([*ask, "-n", "0", "Who?"], 2),
        ([*ask, "-n", "many", "Who?"], 2), ([*ask, "--temperature", "-1", "Who?"], 2), ([*ask, "--top-p", "0", "Who?"], 2),
        ([*ask, "--seed", "99999999999999999999", "Who?"], 2), ([*ask, "--memory", "lots", "Who?"], 2), ([*ask, "--memory", f"{'9' * 400}g", "Who?"], 2), ([*ask, "--dtype", "int3", "Who?"], 2), ([*ask, "--device", "tpu", "Who?"], 2),
        (["ask", "--cache", str(tmp_path / "no.gfc"), "Who?"], 4), (["ask", "--cache", str(document), "Who?"], 6),
        (["inspect", str(document)], 6), (["inspect", str(tmp_path / "no.gfc")], 4),
        ([*fill, str(tmp_path / "no.txt")], 4), ([*fill, str(tmp_path)], 2), ([*fill, "-", "-"], 2),
        ([*fill, str(document), "-o", str(tmp_path / "no" / "x.gfc")], 2), (["prefill", str(document), "-m", "nothing"], 4),
        (["prefill", str(document), "-m", str(tmp_path)], 4),
    ]  # fmt: skip
    for arguments, code in cases:
        capsys.readouterr()
        assert run(arguments) == code, arguments
        out, err = capsys.readouterr()
        assert out == "", arguments
        assert "error: " in err, arguments
        assert "Traceback" not in err


@pytest.mark.parametrize("command", ["prefill", "ask", "plan", "append", "truncate", "refresh", "verify"])
def test_a_wrong_value_of_an_option_is_refused_once_and_first(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the arguments are, of which none exists here."""
    options = {"--device": "tpu"} | ({} if command in ("ask", "verify") else {"--checkpoints": "x"})
    options |= {"--dtype": "int3"} if command in ("prefill", "ask", "plan") else {}
    for option, value in options.items():
        assert run([command, "absent", "absent2", option, value]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"error: {option} is {value!r}, allowed: ")
        assert err.count("error") == 1


@pytest.mark.usefixtures("cache")
def test_words_of_errors(document: Path, tiny_model: Path, tmp_path: Path, capsys) -> None:
    """What is wrong, the value seen, what to do next."""
    hidden, blank = tmp_path / "hidden", tmp_path / "blank.txt"
    hidden.mkdir()
    (hidden / ".x.txt").write_text(TEXT)
    blank.write_text("  \n")
    for arguments, words in (
        (["ask", "doc.txt", "who", "wrote", "it"], ["(wrote it)", "quote the question"]),
        (["ask", "doc.txt", "-n", "many", "Who?"], ["--max-tokens", "'many'"]),
        (["ask", "doc.txt", "--top-k=x", "Who?"], ["--top-k", "'x'"]),
        (["ask", "doc.txt", "--memory", "lots", "Who?"], ["--memory is 'lots'"]),
        (["ask", "", "Who?"], ["no document"]),
        (["cache", "prune", "--max-size", "x"], ["--max-size is 'x'"]),
        (["cache", "prune", "--older-than", "x"], ["--older-than is 'x'"]),
        (["cache", "ls", "--filter", "size>x"], ["--filter size is 'x'"]),
        (["cache", "ls", "--filter", "used>x"], ["--filter used is 'x'"]),
        (["cache", "rm", "28"], ["28", "4 or more characters"]),
        (["prefill", ""], ["empty name"]),
        (["prefill", "-r", str(hidden)], ["no documents", "1, is hidden"]),
        (["prefill", str(blank), "-m", str(tiny_model)], ["blank.txt is empty"]),
        (["ask", str(blank), "-m", str(tiny_model), "Who?"], ["blank.txt is empty"]),
        (["prefill", str(document), "-m", str(tiny_model), "-o", "-"], ["-o is -"]),
    ):
        assert run(arguments) == (4 if arguments[1] == "rm" else 2), arguments
        err = capsys.readouterr().err
        assert all(word in err for word in words), err


def test_errors_as_json(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "--json", str(document)]) == 6
    error = json.loads(capsys.readouterr().err)
    assert error["code"] == 6
    assert "not a .gfc" in error["message"]


def test_full_disk(
    document: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert run(["prefill", str(document), "-m", str(tiny_model)]) == 8
    assert "No space left" in capsys.readouterr().err
    assert [p.name for p in document.parent.iterdir() if p.is_file()] == ["doc.txt"]


def test_unwritable_folder(
    document: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    # /proc takes no new files, whoever asks: root passes the permission bits of the folder above.
    target = "/proc/doc.gfc" if os.geteuid() == 0 else str(folder / "doc.gfc")
    assert run(["prefill", str(document), "-m", str(tiny_model), "-o", target]) == 8
    assert "cannot write" in capsys.readouterr().err


def test_long_document_gets_a_warning(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "long.txt"
    path.write_text(TEXT)
    model = ["-m", str(tiny_model)]
    for command in (["prefill"], ["prefill", "--library"], ["ask", "-n", "1"]):
        path.write_text(path.read_text() + " More.")
        for warned in (True, False):  # the second time, nothing is computed
            question = ["Who?"] if command[0] == "ask" else []
            assert run([*command, *model, str(path), *question]) == 0
            assert ("trained on at most 256" in capsys.readouterr().err) == warned


def test_verbose_says_how_the_document_is_attended_to(cache: Path, tiny_model: Path, capsys) -> None:
    question = ["ask", "-m", str(tiny_model), "--cache", str(cache), "What?", "--max-tokens", "1", "-v"]
    assert run(question) == 0
    kept = capsys.readouterr()
    assert "are kept" in kept.err
    assert run([*question, "--memory", "1"]) == 0
    rebuilt = capsys.readouterr()
    assert "rebuilt by block" in rebuilt.err
    assert kept.out == rebuilt.out


def test_a_prompt_survives_a_failing_question(cache: Path, tiny_model: Path, capsys, monkeypatch) -> None:
    """The prompt's own sign goes to stderr where stdout is no terminal."""
    from goldfinch.engine.session import Session

    real = Session.stream

    def fails(self: Session, question: str, **options: Any) -> Any:
        if question == "bad":
            raise ValueError("a fault")
        return real(self, question, **options)

    monkeypatch.setattr(Session, "stream", fails)
    ask = ["ask", "--cache", str(cache), "-m", str(tiny_model), "-n", "3"]
    assert run([*ask, "Who?"]) == 0
    answer = capsys.readouterr().out
    typed = io.StringIO("bad\nWho?\n\n")
    typed.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", typed)
    assert run(ask) == 0
    out, err = capsys.readouterr()
    assert out == answer
    assert "a fault" in err
    assert err.count("? ") == 3


def test_questions_that_are_no_utf_8(cache: Path, tiny_model: Path, monkeypatch) -> None:
    ask = ["ask", "--cache", str(cache), "-m", str(tiny_model), "-n", "2"]
    assert run([*ask, "caf\udcff?"]) == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("caf\udcff?"))
    assert run(ask) == 0
    assert run([*ask, "   "]) == 2
