"""gf as a process of its own: start-up, signals, terminals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gfcache
import pytest

from tests.cpu_time import PATIENCE_S
from tests.gfcli.conftest import TEXT
from tests.gfcli.start_up import check_light, start_up_ratio


def gf(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gfcli", *arguments], capture_output=True, text=True, check=False, **options
    )


@pytest.mark.usefixtures("cache")
def test_as_a_process(document: Path, tiny_model: Path) -> None:
    done = gf("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("gf ")
    done = gf("prefill", "-", "-o", str(document.with_name("piped.gfc")), "-m", str(tiny_model), input=TEXT)
    assert done.returncode == 0, done.stderr
    done = gf("ask", "--cache", done.stdout.strip(), "-m", str(tiny_model), "-n", "3", "--json", input="Who?")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["document_tokens_computed"] == 0
    assert gf("prefill", "-", "-m", str(tiny_model), input=TEXT).returncode == 2


def test_names_that_are_no_utf_8(document: Path, tiny_model: Path) -> None:
    name = os.fsdecode(bytes(document.parent) + b"/bad\xff.txt")
    document.rename(name)
    done = gf("prefill", name, "-m", str(tiny_model), errors="surrogateescape")
    assert done.returncode == 0, done.stderr
    cache = done.stdout.rstrip("\n")
    assert cache == name.removesuffix("txt") + "gfc"
    assert gfcache.inspect_cache(cache)["source"]["name"] == "bad\\xff.txt"
    done = gf("append", cache, name, "-m", str(tiny_model), errors="surrogateescape")
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("cache")
def test_streams_that_take_few_characters_or_are_closed(document: Path, tiny_model: Path) -> None:
    text = "Caf\xe9 costs 5 \u20ac"
    document.write_text(text)
    ask = ["ask", "--cite", str(document), "-m", str(tiny_model), "-n", "2", "What?"]
    done = gf(*ask, encoding="latin-1", env=os.environ | {"PYTHONIOENCODING": "latin-1"})
    assert done.returncode == 0, done.stderr
    assert "Caf\xe9 costs 5 \\u20ac" in done.stdout
    command = [sys.executable, "-m", "gfcli", "cache", "ls"]
    for closed, code in ((">&-", 0), ("2>&-", 0), ("<&-", 0)):
        done = subprocess.run(
            ["sh", "-c", f'"$@" {closed}', "sh", *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert "unexpected" not in done.stderr


def test_light_commands_import_no_torch(cache: Path) -> None:
    check_light(["--help"], ["--version"], ["ask", "--help"], ["inspect", str(cache)], ["model", "list"])


def test_light_commands_start_fast(cache: Path) -> None:
    """They take little more than Python, numpy and the parser do; torch alone would take five times as long."""
    for arguments in (["--help"], ["--version"], ["inspect", str(cache)]):
        assert start_up_ratio(*arguments, limit=3) < 3, arguments


@pytest.mark.slow
def test_signals_leave_nothing_behind(tmp_path: Path, tiny_model: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text(TEXT * 300)  # minutes of work
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        process = subprocess.Popen(
            [sys.executable, "-m", "gfcli", "prefill", str(path), "-m", str(tiny_model)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # nohup hands down that it is ignored
        )  # fmt: skip
        assert process.stderr is not None
        process.stderr.readline()  # the warning about the length: the model is loaded
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == code, err
        assert "Traceback" not in err
        how = "Interrupted" if code == 130 else "Terminated"
        assert f"{how} before anything was kept: the same command begins anew.\n" in err
        assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["long.txt"]


@pytest.mark.slow
@pytest.mark.parametrize("command", [["prefill"], ["ask", "-n", "1"]])
def test_an_ended_run_says_that_it_resumes_where_it_does(
    command: list[str], tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GF_JOURNAL_SECONDS", "0")
    monkeypatch.setenv("GF_CACHE_DIR", str(tmp_path / "library"))
    path = tmp_path / "long.txt"
    path.write_text(TEXT * 300)
    name, *options = command
    question = ["Who?"] if name == "ask" else []
    process = subprocess.Popen(
        [sys.executable, "-m", "gfcli", name, str(path), *question, *options, "-m", str(tiny_model)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + PATIENCE_S
    while not [p for p in tmp_path.rglob(".*.journal") if p.is_file()]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.2)  # noted, and said so
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert "Interrupted. Run the same command again to resume.\n" in err


def test_progress_on_a_terminal(document: Path, tiny_model: Path) -> None:
    """In a terminal a bar shows tokens and tok/s on stderr, and stdout stays data."""
    import pty

    document.write_text(TEXT * 30)
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gfcli", "prefill", str(document), "-m", str(tiny_model)],
        stdout=subprocess.PIPE, stderr=child, text=True, env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(child)
    seen = b""
    while True:
        try:
            piece = os.read(parent, 4096)
        except OSError:  # Linux reports the closed terminal so
            break
        if not piece:
            break
        seen += piece
    os.close(parent)
    assert process.communicate()[0].strip() == str(document.with_suffix(".gfc"))
    assert process.returncode == 0
    assert b"tokens" in seen
    assert b"tok/s" in seen
