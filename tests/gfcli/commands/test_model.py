"""gf model: list, show, import, verify, and how a cache finds its model."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import jsonschema
import pytest

from gfcli.app import run
from goldfinch.weights.directory import DEFAULT_MODEL
from tests.schemas import schema


def test_a_model_that_cannot_read_is_not_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(tmp_path / "m")
    assert run(["model", "init", "--preset", "goldfinch-tiny", "-o", model]) == 0
    for line in (["model", "measure", model], ["eval", "-m", model, "--task", "perplexity", "--data", str(tmp_path)]):
        assert run(line) not in (0, 1)
        assert "this model has no tokenizer" in capsys.readouterr().err


def test_model_commands(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GF_MODELS_DIR", str(tiny_model.parent))
    assert run(["model", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    jsonschema.validate(listed, schema("model-list"))
    assert "tiny" in {row["name"] for row in listed["models"]}
    assert run(["model", "verify", "tiny"]) == 0
    assert run(["model", "show", "tiny"]) == 0
    assert "goldfinch" in capsys.readouterr().out
    assert run(["model", "show", "tiny", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    jsonschema.validate(shown, schema("model-show"))
    assert shown["card"]["prefill_fingerprint"] == shown["prefill_fingerprint"]
    assert run(["model", "show", "nothing-of-the-kind"]) == 4
    assert "known models" in capsys.readouterr().err
    for seed in ("5", "5"):
        out = tmp_path / f"made-{time.monotonic_ns()}"
        assert run(["model", "init", "--preset", "goldfinch-tiny", "--seed", seed, "-o", str(out)]) == 0
    made = [json.loads((path / "config.json").read_text()) for path in tmp_path.glob("made-*")]
    assert made[0]["model_fingerprint"] == made[1]["model_fingerprint"]
    assert run(["model", "init", "--preset", "nothing", "-o", str(tmp_path / "x")]) == 2
    assert run(["model", "init", "-o", str(out)]) == 2  # exists already


def test_which_of_several_models_of_one_name_is_taken(
    tiny_model: Path, other_model: Path, tmp_path: Path, capsys
) -> None:
    """By the name of the folder, or by that in the card; the one that is listed is the one that runs."""
    folder = tmp_path / "user-models"
    for name, model in (("a", tiny_model), ("b", other_model), ("tiny", other_model), ("alone", tiny_model)):
        shutil.copytree(model, folder / name)
        values = json.loads((folder / name / "config.json").read_text())
        (folder / name / "config.json").write_text(json.dumps(values | {"name": name if name == "alone" else "tiny"}))
    (folder / DEFAULT_MODEL).mkdir()
    (folder / DEFAULT_MODEL / "config.json").write_text("broken")
    assert run(["model", "list"]) == 0
    lines = {line.split("  (")[0].split()[-1]: line for line in capsys.readouterr().out.splitlines()}
    assert {Path(path).name for path, line in lines.items() if "(not taken: " not in line} == {
        "tiny",
        "alone",
        DEFAULT_MODEL,
    }
    assert f"(not taken: tiny is {folder}/tiny)" in lines[f"{folder}/a"]
    [embedded] = [line for path, line in lines.items() if not path.startswith(str(folder))]
    assert f"(not taken: {DEFAULT_MODEL} is {folder}/{DEFAULT_MODEL})" in embedded
    assert run(["model", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    jsonschema.validate(rows, schema("model-list"))
    taken = {Path(row["path"]).name: row["taken"] for row in rows["models"]}
    assert taken == {"a": False, "b": False, "tiny": True, "alone": True, DEFAULT_MODEL: False}
    assert run(["model", "show", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(folder / "tiny")
    assert run(["model", "show", DEFAULT_MODEL]) != 0


def test_model_verify_finds_one_changed_weight(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    weights = load_file(copy / "model.safetensors")
    weights["head.weight"][3, 3] += 1e-3
    save_file(weights, copy / "model.safetensors")
    assert run(["model", "verify", str(copy)]) == 6
    assert "model_fingerprint" in capsys.readouterr().err


def test_model_is_found_by_the_fingerprint(
    document: Path,
    tiny_model: Path,
    other_model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run(["prefill", str(document), "-m", str(tiny_model)]) == 0
    cache = str(document.with_suffix(".gfc"))
    assert run(["ask", "--cache", cache, "Who?"]) == 4  # no model here made it
    assert "tiny" in capsys.readouterr().err
    monkeypatch.setenv("GF_MODELS_DIR", str(tiny_model.parent))
    assert run(["ask", "--cache", cache, "-n", "2", "Who?"]) == 0
    assert run(["ask", "--cache", cache, "-m", str(other_model), "Who?"]) == 5
    assert "prefill_fingerprint" in capsys.readouterr().err


def test_what_to_read_is_measured_and_kept(tiny_model: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert run(["model", "measure", str(tiny_model), "--lengths", "500", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert Path(found["path"]).is_relative_to(tmp_path)
    assert json.loads(Path(found["path"]).read_text())["measured"] == found["measured"]
    assert "500 tokens, all: F1" in err
    assert run(["model", "measure", str(tiny_model), "--lengths", "500"]) == 0
    assert capsys.readouterr().out == "the whole document: no other policy answers better\n"
    assert run(["model", "measure", str(tiny_model), "--lengths", "400"]) == 2
    assert "a length is 400 tokens, allowed: 500 or more" in capsys.readouterr().err
