"""Colours where there are colours, paths in what a line has left for them, one line about one thing."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from gfcli.app import run
from gfcli.support.console import console as shared
from gfcli.support.console import has_colours, shortened


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> tuple[Terminal, Terminal]:
    """stdout and stderr as a terminal of 60 columns, from now on: pytest sets them at the beginning of a test."""
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((60, 24)))
    return out, err


def test_when_there_are_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert has_colours(Terminal())
    assert not has_colours(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not has_colours(Terminal())
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert has_colours(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colours(Terminal())


def test_errors_and_states_have_colours_on_a_terminal(folder: Path, monkeypatch) -> None:
    out, err = on_terminal(monkeypatch)
    (folder / "a.txt").write_text("Another text.\n")
    assert run(["status"]) == 0
    assert "\x1b[33mstale\x1b[0m" in out.getvalue()
    assert "\x1b[32mfresh\x1b[0m" in out.getvalue()
    assert run(["status", "nosuch.gfc"]) == 4
    assert err.getvalue().splitlines()[-1].startswith("\x1b[1;31merror:\x1b[0m nosuch.gfc: ")
    monkeypatch.setenv("NO_COLOR", "1")
    assert run(["status"]) == 0
    assert "\x1b" not in out.getvalue().rpartition("fresh")[2]


def test_what_others_write_is_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    out, _ = on_terminal(monkeypatch)
    shared.line("stale \x1b[31m red", state="stale")
    assert out.getvalue() == "\x1b[33mstale\x1b[0m ?[31m red\n"


def test_tables_fit_the_terminal_and_only_that(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = folder / "/".join(["a-folder-of-some-length"] * 4)
    deep.mkdir(parents=True)
    (deep / "b.gfc").write_bytes((folder / "b.gfc").read_bytes())
    out, _ = on_terminal(monkeypatch)
    assert run(["status", str(folder)]) == 0
    lines = out.getvalue().replace("\x1b[32m", "").replace("\x1b[0m", "").splitlines()
    assert lines
    assert all(len(line) <= 60 for line in lines)
    assert any("..." in line and line.split()[1].endswith("/b.gfc") for line in lines)


def test_paths_are_cut_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert shortened("/home/me/docs/a.txt", 40) == "~/docs/a.txt"
    assert shortened("/home/me", 40) == "~"
    assert shortened("/home/meadow/a.txt", 40) == "/home/meadow/a.txt"
    for columns in range(12, 60):
        for path in ("/srv/a/b/c/d/e/f/g/h/report.txt", "/srv/" + "x" * 70, "a" * 70, "/srv/a.txt"):
            cut = shortened(path, columns)
            assert len(cut) <= max(columns, 12)
            assert cut == path or (cut.startswith(path[:2]) and cut.endswith(path[-3:]) and "..." in cut)
    assert shortened("/srv/a/b/c/d/e/f/g/h/report.txt", 24).endswith("/report.txt")


def test_one_line_for_a_document_on_a_terminal(document: Path, tiny_model: Path, monkeypatch) -> None:
    out, err = on_terminal(monkeypatch)
    assert run(["prefill", str(document), "-m", str(tiny_model)]) == 0
    assert out.getvalue() == ""
    assert str(document.with_suffix(".gfc")) in err.getvalue()
    assert run(["prefill", str(document), "-m", str(tiny_model), "--force", "-q"]) == 0
    assert out.getvalue() == f"{document.with_suffix('.gfc')}\n"
