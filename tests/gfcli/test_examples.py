"""The first example of every help page runs as it is printed."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gfcli.app import run
from gfcli.registry import COMMANDS
from tests.conftest import SAMPLES, SMALL_GOLDEN
from tests.goldfinch.foreign.folders import write_folder
from tests.goldfinch.train.records import write_records

TEXT = (SAMPLES / "four-freedoms-1941.txt").read_text()
# These compute for seconds: their options are tried in files of their own.
SLOW = {"bench load", "doctor"}
# These go on until they are stopped, and say on stdout that they have begun.
SERVERS = {"serve": ["--port", "0"]}
RECIPE = """
name = "toy"
tokenizer = "{tokenizer}"
corpora = ["corpus-wikipedia-00", "corpus-books"]
[model]
preset = "goldfinch-tiny"
[[stage]]
tokens = 400
sequence = 96
batch = 2
mixture = {{ text = 1.0 }}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_tokenizer: Path) -> Path:
    """What the examples name: documents, caches, a model, a recipe."""
    made = tmp_path_factory.mktemp("examples")
    for name, length in (
        ("doc.txt", 2500), ("log.txt", 2000), ("today.txt", 300), ("handbook.txt", 6000), ("chapter1.txt", 900),
        ("docs/a.txt", 700), ("docs/b.txt", 900),
    ):  # fmt: skip
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text(f"{name}\n{TEXT[:length]}")
    (made / "corpora" / "samples").mkdir(parents=True)
    (made / "corpora" / "samples" / "house.txt").write_text("The code of the gate is 48213.")
    asked = {"file": "house.txt", "question": "What is the code?", "answers": ["48213"]}
    (made / "corpora" / "samples" / "questions.jsonl").write_text(json.dumps(asked) + "\n")
    for name in ("corpus-wikipedia-00", "corpus-books"):
        write_records(
            made / "corpora" / f"{name}.jsonl.zst", [{"title": "a", "text": TEXT}, {"title": "b", "text": TEXT}]
        )
    (made / "recipe.toml").write_text(RECIPE.format(tokenizer=tiny_tokenizer))
    for source, name in (("weights.safetensors", "model.safetensors"), ("config.json", "config.json")):
        shutil.copyfile(SMALL_GOLDEN / "goldfinch_ratio2" / source, made / name)
    model = ["-m", str(tiny_model), "-q"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        assert run(["prefill", "doc.txt", "log.txt", *model]) == 0
        assert run(["prefill", "docs/a.txt", "docs/b.txt", "-o", "caches/", *model]) == 0
        assert run(["prefill", "handbook.txt", "--checkpoints", "64", *model]) == 0
        assert run(["prefill", "chapter1.txt", "--base", "handbook.gfc", *model]) == 0
    for name in ("a.gfc", "b.gfc"):
        shutil.copyfile(made / "caches" / "a.gfc", made / name)
    return made


@pytest.mark.parametrize("name", [c.name for c in COMMANDS if c.function and c.name not in SLOW])
def test_first_examples_run(
    name: str, folder: Path, named_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    work = tmp_path / "work"
    shutil.copytree(folder, work)
    monkeypatch.chdir(work)
    monkeypatch.setenv("GF_MODEL", named_model)
    monkeypatch.setenv("GF_MAX_TOKENS", "2")
    monkeypatch.setenv("GF_DATA_DIR", "corpora")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    if name.startswith("cache ") or name == "search":
        assert run(["prefill", "doc.txt", "--library", "-q"]) == 0
    if name == "refresh":  # what was made here may be read again here
        assert run(["prefill", "docs/a.txt", "docs/b.txt", "-o", "caches/", "--force", "-q"]) == 0
    if name == "model import":
        write_folder(work / "Qwen2.5-0.5B-Instruct")
    if name in ("model set", "model measure"):
        shutil.copytree(tmp_path / "user-models" / named_model, "my-model")
    assert run([*name.split(), "--help"]) == 0
    line = capsys.readouterr().out.split("Examples:\n", 1)[1].splitlines()[0]
    words = shlex.split(line.split(" > ")[0])
    assert words[:1] == ["gf"]
    arguments = [
        found for word in words[1:] for found in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
    ]
    if name in SERVERS:
        command = [sys.executable, "-m", "gfcli", *arguments, *SERVERS[name]]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            began = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            assert (process.wait(60), bool(began)) == (0, True)
        return
    assert run(arguments) == 0, capsys.readouterr().err
