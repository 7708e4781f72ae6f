"""gf model import, show, set and verify of models of others."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from gfcli.app import run
from tests.goldfinch.foreign.folders import write_folder
from tests.schemas import schema


def test_a_folder_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GF_MODELS_DIR", str(tmp_path / "models"))
    folder = write_folder(tmp_path / "tiny")
    assert run(["model", "import", str(folder)]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / "models" / "tiny")
    assert "of 12 questions" in said.err
    for command, name in (["list", "model-list"], ["show", "model-show"]):
        assert run(["model", command, *(["tiny"] if command == "show" else []), "--json"]) == 0
        jsonschema.validate(json.loads(capsys.readouterr().out), schema(name))
    assert run(["model", "set", "tiny", "prompt=plain"]) == 0
    assert run(["model", "show", "tiny"]) == 0
    shown = capsys.readouterr().out
    assert json.dumps("Question: What is this text?\nAnswer: an article\nQuestion: ") in shown
    assert "<|turn|>user" in shown  # the other prompt is kept
    assert run(["model", "set", "tiny", "prompt=loud"]) == 2
    assert run(["model", "set", "tiny", 'template.stop=["."]', "name=small"]) == 0
    assert run(["model", "verify", "tiny"]) == 0
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-4] + b"\0\0\0\1")
    capsys.readouterr()
    assert run(["model", "verify", "tiny"]) == 6
    assert "model.safetensors" in capsys.readouterr().err
    assert run(["model", "set", "tiny"]) == 0  # adopts what stands there
    assert "model_fingerprint" in capsys.readouterr().err
    assert run(["model", "verify", "tiny"]) == 0
    (folder / "model.safetensors").unlink()
    assert run(["model", "verify", "tiny"]) == 4


def test_words_for_what_is_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["model", "import", str(tmp_path / "nothing")]) == 4
    assert run(["model", "import", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "no config.json" in said
    assert "hint:" in said
    assert run(["model", "import", str(tmp_path), "--config", "config.json"]) == 2
    assert "-o DIR" in capsys.readouterr().err
    assert run(["model", "import", str(tmp_path), "--tokenizer", "tokenizer.json"]) == 2


def test_a_model_of_others_is_not_evaluated_as_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "tiny", tokenizer=False)
    out = tmp_path / "out"
    assert run(["model", "import", str(folder), "-o", str(out)]) == 0
    assert run(["bench", "prefill", "-m", str(out), "--lengths", "64"]) == 2
    assert "a model of others" in capsys.readouterr().err
