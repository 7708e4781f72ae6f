"""Asking at a prompt, and what else may be typed there; a document that is piped in; arguments in the wrong order."""

from __future__ import annotations

import json
import readline
from pathlib import Path

import jsonschema
import pytest

from gfcli.app import run
from gfcli.support import prompt as prompts
from gfcli.support.console import Console
from tests.schemas import schema

TEXT = "The code of the blue cabinet is 48213. It stands in the hall.\n"


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> list[str]:
    """What is answered, and what is said of citations, when these lines are typed and then no more."""
    said, waiting, on = [], list(lines), [False]

    def question(console: Console) -> str:
        if not waiting:
            raise EOFError
        return waiting.pop(0)

    def cite() -> bool:
        on[0] = not on[0]
        return on[0]

    monkeypatch.setattr(Console, "question", question)
    prompts.prompt(lambda text: said.append(f"{text} {on[0]}"), "Ask.", cite)
    return said + waiting


@pytest.mark.parametrize("last", ["exit", "QUIT", "/quit", "", "  "])
def test_words_that_end_a_prompt(last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed(monkeypatch, "Who?", last, "never read") == ["Who? False", "never read"]


def test_commands_at_a_prompt(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert typed(monkeypatch, "/cite", "Who?", "/cite", "/help", "/nothing", "/etc is what?") == [
        "Who? True", "/etc is what? False",
    ]  # fmt: skip
    err = capsys.readouterr().err
    assert all(word in err for word in ("citations on", "citations off", prompts.HELP, "/nothing is not a command"))


def test_questions_are_kept_for_the_next_prompt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a private file; a link in its place is neither read nor written."""
    history = prompts.history_file()
    readline.clear_history()
    readline.add_history("Who signed?")
    typed(monkeypatch)
    assert "Who signed?" in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600
    readline.clear_history()
    typed(monkeypatch)
    assert readline.get_history_item(1) == "Who signed?"
    other = tmp_path / "other"
    other.write_text("not a history")
    history.unlink()
    history.symlink_to(other)
    readline.clear_history()
    readline.add_history("Why?")
    typed(monkeypatch)
    assert other.read_text() == "not a history"
    readline.clear_history()


def test_a_document_may_be_piped_in_without_a_dash(work: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (work / "doc.txt").write_text(TEXT)
    with open("doc.txt") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert run(["ask", "What is the code of the blue cabinet?", "-n", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema("ask"))
    assert (found["question"], found["document"]) == ("What is the code of the blue cabinet?", "stdin")
    assert found["model"] == "tiny"
    with open("doc.txt") as stream:  # a misspelt document, and its question
        monkeypatch.setattr("sys.stdin", stream)
        assert run(["ask", "dox.txt"]) == 4
    with open("/dev/null") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert run(["ask", "What is the code?"]) == 2
    assert "a question without a document" in capsys.readouterr().err


def test_arguments_in_the_wrong_order(work: Path, capsys) -> None:
    (work / "my doc.txt").write_text(TEXT)
    assert run(["ask", "What is the code?", "my doc.txt"]) == 2
    assert "hint: the document comes first: gf ask 'my doc.txt' \"What is the code?\"" in capsys.readouterr().err
