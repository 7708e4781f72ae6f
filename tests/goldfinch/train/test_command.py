"""gf train: the log on stderr, the bar on a terminal, what a recipe asks for at the end."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gfcli.app import run
from gfcli.commands.train import TrainingProgress

ENTRY = {"step": 20, "of": 40, "loss": 3.25, "answer_loss": 1.5, "tok_s": 12_345}
RECIPE = """
name = "toy"
tokenizer = "{tokenizer}"
corpora = ["corpus-wikipedia-00", "corpus-books"]
{more}
[model]
preset = "goldfinch-tiny"
[[stage]]
tokens = 400
sequence = 96
batch = 2
mixture = {{ text = 1.0 }}
"""


def test_train_and_evaluate(
    corpora: Path, tiny_tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpora / "samples").mkdir(exist_ok=True)
    (corpora / "samples" / "house.txt").write_text("The code of the gate is 48213.")
    asked = {"file": "house.txt", "question": "What is the code?", "answers": ["48213"]}
    (corpora / "samples" / "questions.jsonl").write_text(json.dumps(asked) + "\n")
    recipe = tmp_path / "toy.toml"
    recipe.write_text(RECIPE.format(tokenizer=tiny_tokenizer, more='evaluation = ["samples"]'))
    command = ["train", str(recipe), "--data", str(corpora), "-o", str(tmp_path / "run"), "--no-compile"]
    assert run(command) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(tmp_path / "run" / "toy")
    assert json.loads(err.splitlines()[0])["step"] == 2
    record = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert record["samples"][0]["questions"] == 1
    recipe.write_text(RECIPE.format(tokenizer=tiny_tokenizer, more='evaluation = ["chess"]'))
    assert run(command) == 2
    assert "chess" in capsys.readouterr().err


def test_files_of_the_evaluation_are_looked_for_first(
    corpora: Path, tiny_tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "toy.toml"
    recipe.write_text(RECIPE.format(tokenizer=tiny_tokenizer, more='evaluation = ["questions", "samples"]'))
    (corpora / "samples").mkdir(exist_ok=True)
    (corpora / "samples" / "questions.jsonl").unlink(missing_ok=True)
    assert run(["train", str(recipe), "--data", str(corpora), "-o", str(tmp_path / "run")]) == 4
    assert not (tmp_path / "run").exists()
    assert run(["eval", "--task", "samples", "--data", str(corpora)]) == 4
    named = f"the task samples reads {corpora / 'samples' / 'questions.jsonl'}, which is not there"
    assert capsys.readouterr().err.count(named) == 2
    (corpora / "samples" / "questions.jsonl").write_text('{"file": "absent.txt", "question": "?", "answers": ["a"]}\n')
    assert run(["eval", "--task", "samples", "--data", str(corpora)]) == 4
    assert "absent.txt, which is not there" in capsys.readouterr().err


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress() as lines:
        lines.report(ENTRY)
    assert json.loads(capsys.readouterr().err) == ENTRY
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    with TrainingProgress() as bar:
        bar.report(ENTRY)
    shown = capsys.readouterr().err
    assert "20/40" in shown
    assert "12,345 tok/s" in shown
