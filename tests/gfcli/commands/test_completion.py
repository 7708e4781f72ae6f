"""What a shell completes, and the man pages."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gfcli import registry
from gfcli.app import run
from gfcli.completing import words_of
from gfcli.parser import build
from gfcli.reference import manual, write_manuals


def completed(command: str, option: str, incomplete: str = "") -> list[str]:
    found = next(c for c in registry.COMMANDS if c.name == command)
    param = next(p for p in build(found).params if option in (*p.opts, p.name))
    return [item.value for item in param.shell_complete(None, incomplete)]


@pytest.mark.usefixtures("named_model")
def test_values_are_completed() -> None:
    assert {"tiny", "gf-mini-4"} <= set(completed("ask", "--model"))
    assert completed("ask", "--dtype", "b") == ["bfloat16"]
    assert completed("ask", "--device", "cu") == ["cuda", "cuda:0"]
    assert completed("ask", "--read", "le") == ["lexical"]
    assert completed("prefill", "--codec", "step4") == ["step4"]
    assert completed("prefill", "--state-codec", "step") == []
    assert completed("cache ls", "--sort", "us") == ["used", "used:asc", "used:desc"]
    assert completed("prefill", "--layout") == ["auto", "whole", "blocks"]
    assert completed("prefill", "--checkpoints") == ["none", "auto"]
    assert "samples" in completed("eval", "--task")
    assert completed("completion", "shell") == ["bash", "zsh", "fish"]
    assert completed("prefill", "documents") == []  # files, which the shell knows


def test_caches_of_the_library_are_completed(document: Path, tiny_model: Path) -> None:
    assert run(["prefill", "--library", str(document), "-m", str(tiny_model), "-q"]) == 0
    ids = [word for word in completed("cache rm", "targets") if word != "doc.txt"]
    assert completed("cache rm", "targets", "doc") == ["doc.txt"]
    assert len(ids) == 1
    assert completed("verify", "files", ids[0][:4]) == ids
    assert completed("verify", "files") == []


def test_what_cannot_be_read_completes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gfcli.support.store.open_store", lambda: 1 / 0)
    param = next(p for p in build(next(c for c in registry.COMMANDS if c.name == "cache rm")).params)
    assert words_of(param, "") == []


def test_zsh_completes_at_the_first_tab(capsys: pytest.CaptureFixture[str]) -> None:
    """What zsh loads at the first Tab has to complete, too, not only say how."""
    assert run(["completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert '[[ $zsh_eval_context[-1] == loadautofunc ]]; then\n  _gf_completion "$@"\nelse\n  compdef' in script
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n"], input=script, text=True, check=True)


def test_every_command_has_a_man_page(tmp_path: Path) -> None:
    write_manuals(tmp_path / "man1")
    assert len(list((tmp_path / "man1").glob("gf*.1"))) == len(registry.COMMANDS) + 1
    for command in registry.COMMANDS:
        page = manual(command.name)
        assert page.startswith(f".TH GF\\-{command.name.upper().replace(' ', chr(92) + '-')} 1")
        assert ".SH NAME\n" in page
        assert re.search(r"^\.SH (EXAMPLES|COMMANDS)$", page, re.MULTILINE)
    assert ".SH EXIT STATUS" in manual("")
    if shutil.which("groff"):
        pages = sorted(map(str, (tmp_path / "man1").glob("*.1")))
        done = subprocess.run(["groff", "-man", "-ww", "-z", *pages], capture_output=True, text=True, check=True)
        assert done.stderr == ""
