"""What others wrote (names, cards, tags, questions, answers) never steers a terminal, whichever command shows it."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import sys
import threading
import tty
from collections.abc import Callable
from pathlib import Path

import pytest

from gfcli import registry
from gfcli.app import run
from gfcli.support.console import Console, printable
from tests.cache_format.craft import craft, sections_of
from tests.cpu_time import PATIENCE_S
from tests.gfcli.conftest import TEXT

# Escape sequences (colours, links, the clipboard), their one-character forms, bell, backspace, delete, carriage
# return; what reorders or hides text; what some take for a line break; bytes of a name that are no UTF-8.
STEERING = (
    "\x1b[31m", "\x1b]8;;http://e\x1b\\", "\x1b]52;c;ZQ==\x07", "\x9b31m", "\x9d0;e\x9c", "\x90", "\x85", "\a", "\b", "\x7f", "\r", "\n",
    "\v", "\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\u2029", "\udcff", "\udc9b",
)  # fmt: skip
EVIL = "e" + "".join(STEERING).replace("/", "") + "e"
EVIL_UTF8 = EVIL.encode(errors="ignore").decode()
Seen = Callable[[list[str]], str]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Runs a command line on a pseudo-terminal and gives what it would show; `run` is tested, not the interpreter."""
    monkeypatch.setenv("TERM", "dumb")  # bars without sequences of their own

    def seen(arguments: list[str]) -> str:
        master, slave = pty.openpty()
        tty.setraw(slave)  # no translation: bytes are seen as they are written
        found: list[bytes] = []

        def read() -> None:
            while True:
                try:
                    data = os.read(master, 65536)
                except OSError:
                    return
                if not data:
                    return
                found.append(data)

        reader = threading.Thread(target=read)
        reader.start()
        errors = (("stdout", "surrogateescape"), ("stderr", "backslashreplace"))
        with monkeypatch.context() as patched:
            streams = [open(os.dup(slave), "w", encoding="utf-8", errors=e) for _, e in errors]  # noqa: SIM115
            for (name, _), stream in zip(errors, streams, strict=True):
                patched.setattr(sys, name, stream)
            try:
                run(arguments)
            finally:
                for stream in streams:
                    stream.close()
        os.close(slave)
        reader.join(PATIENCE_S)
        os.close(master)
        return b"".join(found).decode(errors="surrogateescape")

    return seen


def steering(shown: str) -> list[str]:
    """The characters that should not be there."""
    ranges = ((0, 8), (11, 31), (127, 159), (0x200B, 0x200B), (0x2028, 0x202E), (0x2066, 0x2069), (0xD800, 0xDFFF))
    return sorted({repr(c) for c in shown if any(a <= ord(c) <= b for a, b in ranges) or c == "\ufeff"})


@pytest.fixture
def evil(work: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of evil names: documents, caches, a model, questions, a file that continues another."""
    folder = work / EVIL
    folder.mkdir()
    monkeypatch.chdir(folder)
    shutil.copytree(tiny_model, folder / EVIL_UTF8)
    (folder / f"{EVIL}.txt").write_text(TEXT[:1500])
    (folder / f"b{EVIL}.txt").write_text(TEXT[:800])
    (folder / f"{EVIL}.bin").write_bytes(b"\0\1")
    rows = [{"id": EVIL_UTF8, "question": f"What {EVIL_UTF8}?"}, {"id": "x", "question": "y", "documents": [EVIL_UTF8]}]
    (folder / "q.jsonl").write_text(json.dumps(rows[0]) + "\n")
    (folder / "bad.jsonl").write_text(json.dumps(rows[1]) + "\n")
    assert run(["prefill", f"{EVIL}.txt", "-o", f"{EVIL}.gfc", "-q", "--checkpoints", "512"]) == 0
    header, _ = sections_of(folder / f"{EVIL}.gfc")
    model = header.model | {"name": EVIL_UTF8}
    source = {**(header.source or {}), "name": EVIL_UTF8, "path": f"/{EVIL_UTF8}"}
    craft(folder / f"{EVIL}.gfc", folder / "crafted.gfc", model=model, source=source)
    recipe = f'[model]\npreset = "{EVIL_UTF8.encode("unicode_escape").decode().replace(chr(92), "u")}"\n'
    (folder / f"{EVIL}.toml").write_text(recipe)
    return folder


CACHE, DOC, MODEL = f"{EVIL}.gfc", f"{EVIL}.txt", f"./{EVIL_UTF8}"
# Lines by command: what works, and what does not.
LINES: dict[str, list[list[str]]] = {
    "ask": [
        [DOC, "-n", "40", "-v", "-u", "What?"], [DOC, "-n", "4", "--explain", "--cite", EVIL],
        ["--cache", CACHE, "-m", MODEL, "-n", "3", EVIL], ["--cache", "crafted.gfc", "-n", "3", "--explain", "What?"],
        ["--cache", CACHE, "--questions", "q.jsonl", "-n", "3"], ["--cache", CACHE, "--questions", "bad.jsonl"],
        ["-r", ".", "-n", "2", "What?"], [DOC, "-n", "4", "--quote", EVIL], [EVIL], [f"{EVIL}?"], [DOC, "What?", EVIL], ["-m", EVIL, DOC, "What?"], ["--cache", EVIL, EVIL], [f"--{EVIL}"],
        ["--device", EVIL, DOC, "x"], ["--memory", EVIL, DOC, "x"], ["--cache", f"{EVIL}*", "--questions", EVIL],
    ],
    "search": [["-r", ".", "world"], [EVIL, DOC], ["world", "--library"], ["world", "--cache", CACHE], ["world", EVIL]],
    "log": [["-n", "3"], [EVIL]],
    "serve": [
        ["--cache", EVIL], ["--root", EVIL], ["--host", EVIL, "--port", "0", "--name", EVIL], ["-f", EVIL], ["--read", EVIL],
        ["--memory", EVIL], ["--max-document", EVIL],
    ],
    "prefill": [
        [DOC, "-v"], ["-r", "."], ["-r", ".", "-o", f"out{EVIL}/", "-v"], [EVIL], [f"{EVIL}.bin"], [DOC, "-o", CACHE, "--force"],
        [DOC, "-o", f"{EVIL}/{EVIL}"], [DOC, "-m", EVIL], ["--files-from", EVIL], ["--checkpoints", EVIL, DOC], ["--base", CACHE, DOC],
        [DOC, "--shard", EVIL], [DOC, "--lock-wait", EVIL],
    ],
    "plan": [[DOC, f"b{EVIL}.txt", EVIL]],
    "status": [[], [EVIL], ["--fail-stale", CACHE]],
    "refresh": [["-n", "."], ["."], [EVIL]],
    "prune": [[".", "--orphaned", "-n"], [".", "--orphaned"], [EVIL, "--orphaned"], [EVIL]],
    "append": [[CACHE, f"b{EVIL}.txt", "-o", f"more{EVIL}.gfc"], [CACHE, EVIL], [DOC, DOC]],
    "truncate": [[CACHE, "--to-line", "2", "-o", f"less{EVIL}.gfc"], [CACHE, "--to-token", EVIL]],
    "flatten": [[CACHE, "-o", f"flat{EVIL}.gfc"], [EVIL]],
    "convert": [[CACHE, "--codec", "step3", "-o", f"small{EVIL}.gfc"], [CACHE, "--codec", EVIL], [EVIL, "--codec", "step3"]],
    "inspect": [[CACHE, "crafted.gfc"], [DOC, EVIL]],
    "verify": [[CACHE, "crafted.gfc", DOC, EVIL], [CACHE, "--replay", EVIL]],
    "diff": [[CACHE, "crafted.gfc"], [CACHE, EVIL]],
    "cache import": [[CACHE, "crafted.gfc", EVIL]],
    "cache tag": [["--add", EVIL, DOC], ["--add", "x", EVIL]],
    "cache pin": [[DOC], [EVIL], ["-f", EVIL]],
    "cache unpin": [[DOC], [EVIL]],
    "cache ls": [[], ["-q"], ["-f", EVIL], ["--sort", EVIL]],
    "cache du": [[]],
    "cache export": [[DOC, "-o", f"export{EVIL}.gfc"], [DOC, "-o", EVIL], [EVIL, "-o", EVIL]],
    "cache prune": [["-n", "--max-size", "1"], ["--older-than", EVIL]],
    "cache rm": [["-n", DOC], ["--filter", "size>1"], [EVIL], ["-y", DOC]],
    "model list": [[]],
    "model show": [[MODEL], [EVIL], ["named"]],
    "model verify": [[MODEL], [EVIL]],
    "model measure": [[EVIL], [MODEL, "--lengths", EVIL], [MODEL, "--lengths", "500"]],
    "model set": [[EVIL], [MODEL, f"template.{EVIL}=x"], [MODEL, f"name={EVIL}"], [MODEL, EVIL]],
    "model init": [["-o", f"model{EVIL_UTF8}"], ["-o", EVIL_UTF8], ["--preset", EVIL, "-o", "x"]],
    "model import": [
        [EVIL, "--config", EVIL, "-o", EVIL], [DOC, "--config", DOC, "-o", f"new{EVIL}"], [EVIL], [DOC, "-o", EVIL],
        [DOC, "--prompt", EVIL], [DOC, "--tokenizer", EVIL],
    ],
    "train": [[EVIL, "-o", EVIL], [f"{EVIL}.toml", "-o", EVIL], [f"{EVIL}.toml", "-o", f"n{EVIL}", "--run", EVIL]],
    "eval": [["--task", EVIL], ["--data", EVIL], ["-m", EVIL]],
    "bench prefill": [["--lengths", EVIL], ["-m", EVIL]],
    "bench ask": [["--lengths", EVIL], ["-m", EVIL]],
    "bench load": [["-m", EVIL]],
    "bench kernels": [["-m", EVIL]],
    "bench methods": [
        ["--arithmetic", "--lengths", EVIL], ["--arithmetic", "-o", EVIL], ["--methods", EVIL, "-o", "report"],
        ["--tasks", EVIL, "-o", "report"], ["--models", EVIL, "-o", "report"], ["--budget", EVIL, "-o", "report"],
        ["--data", EVIL, "-o", "report"],
    ],
    "bench codecs": [[EVIL], [DOC, "-m", EVIL], [DOC, "--plot", EVIL]],
    "config show": [[], ["--origin"]],
    "doctor": [["-m", EVIL], ["-m", MODEL]],
    "completion": [[EVIL]],
}  # fmt: skip


def test_every_command_is_tried() -> None:
    assert list(LINES.keys() ^ {command.name for command in registry.COMMANDS if command.function}) == []


@pytest.mark.usefixtures("evil")
@pytest.mark.parametrize("name", LINES)
def test_no_command_lets_a_name_steer_the_terminal(name: str, terminal: Seen, capsys) -> None:
    if name.startswith("cache "):
        assert run(["ask", DOC, "-n", "1", "What?"]) == 0
    for arguments in LINES[name]:
        for more in ([], ["--debug"]) if arguments == LINES[name][-1] else ([],):
            shown = terminal([*more, *name.split(), *arguments])
            assert steering(shown) == [], shown
            assert shown or "-q" in arguments
        assert run([*name.split(), *arguments]) is not None
        out, err = capsys.readouterr()
        # In a pipe, bytes of names that are no UTF-8 stay what they are.
        assert steering("".join(c for c in out + err if not "\udc80" <= c <= "\udcff")) == [], out + err


def test_no_line_of_gf_itself_lets_arguments_through(evil: Path, terminal: Seen, monkeypatch) -> None:
    (evil / "gf.toml").write_text('memory = "1g"\n')
    lines = [[EVIL], ["cache", EVIL], [f"--{EVIL}"], ["ask", "--help"], ["--help"], ["config", "show", "--origin"]]
    for variable, value in (("GF_MODEL", EVIL), ("GF_MAX_TOKENS", EVIL), ("GF_DEVICE", EVIL), ("GF_CACHE_DIR", EVIL)):
        monkeypatch.setenv(variable, value)
        for line in lines:
            assert steering(terminal(line)) == [], line
        monkeypatch.delenv(variable)
    for text in (f'"{"k" * 9}\\u001b[31m\\u202e" = 1', 'device = "\\u001b[31m"', 'model = "\\u001b[31m"', "= \x1b[31m"):
        (evil / "gf.toml").write_text(text)
        for line in (*lines, ["ask", DOC, "x"]):
            assert steering(terminal(line)) == [], line


def test_an_answer_has_lines_and_tabs_and_nothing_else(capsys) -> None:
    console = Console()
    console.text(f"one\n\ttwo{EVIL}", end="\n")
    shown = capsys.readouterr().out
    assert shown.startswith("one\n\ttwoe?[31m?]8;;http:e?")
    assert steering(shown) == []


def test_ordinary_text_of_all_languages_stays(capsys) -> None:
    text = "naïve “quotes” 日本語 עברית می\u200cخواهم 👩\u200d🚀 10\u202f000\u00a0€ co\u00adop \u3000"
    assert printable(text) == text
    Console().line(text)
    assert capsys.readouterr().out == text + "\n"


def test_a_name_makes_no_second_line(capsys) -> None:
    console = Console()
    console.warn("a\nhint: rm -rf ~")
    console.line("a\nb")
    console.row("a\tb", "c\nd")
    out, err = capsys.readouterr()
    assert err == "warning: a?hint: rm -rf ~\n"
    assert out == "a?b\na?b\tc?d\n"


@pytest.mark.parametrize("field", ["name", "tokenizer_file"])
def test_a_card_of_others_is_shown_without_what_steers(field: str, work: Path, terminal: Seen) -> None:
    folder = work.parent / "user-models" / "named"
    shutil.copytree((work.parent / "user-models" / "tiny").resolve(), folder)
    values = json.loads((folder / "config.json").read_text())
    values[field] = EVIL_UTF8
    (folder / "config.json").write_text(json.dumps(values))
    for line in (["model", "list"], ["model", "show", "named"], ["model", "verify", "named"], ["ask", "-m", "named"]):
        assert steering(terminal(line)) == []


@pytest.mark.usefixtures("evil")
def test_a_bar_shows_its_label_without_what_steers(terminal: Seen, monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for line in (["ask", DOC, "-n", "1", "What?"], ["prefill", DOC, "-o", "x.gfc"], ["prefill", "-r", ".", "-o", "x/"]):
        shown = terminal(line)
        assert "\x1b[" in shown  # the bar's own
        own = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]|\r", "", shown.replace("e\x1b[31m", "e\a"))
        assert steering(own) == []
