"""What errors of others become."""

from __future__ import annotations

import sys

import pytest

from gfcli.app import run
from gfcli.support.exits import BUG_OR_OTHER, USAGE, describe, exit_code


def test_without_torch_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path, capsys) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("torch", "goldfinch")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    document = tmp_path / "a.txt"
    document.write_text("The code is 48213.\n")
    assert run(["prefill", str(document)]) == USAGE
    error, hint = capsys.readouterr().err.splitlines()
    assert error == f"error: this needs torch, which is not installed in {sys.prefix}"
    assert hint == f"hint: {sys.executable} -m pip install torch"


def test_a_module_of_ours_that_is_missing_is_a_bug() -> None:
    error = ModuleNotFoundError("No module named 'goldfinch.nothing'", name="goldfinch.nothing")
    assert exit_code(error) == BUG_OR_OTHER
    assert "report it" in str(describe(error)[1])
