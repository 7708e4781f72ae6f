"""A recipe with several runs: each starts from the ones before, is finished once, and survives being cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gfcli.app import run
from goldfinch import load_model
from goldfinch.errors import CheckpointError, ConfigError, ModelNotFound
from goldfinch.train.recipe import read_recipe, read_runs
from goldfinch.train.runs import train_runs, write_shards_of

TWO = """
name = "toy"
tokenizer = "{tokenizer}"
corpora = ["corpus-wikipedia-00", "corpus-books"]
warmup_steps = 1
evaluation = []
[model]
preset = "goldfinch-tiny"
[[run]]
name = "one"
seed = 1
[[run.stage]]
tokens = 800
sequence = 96
batch = 2
mixture = {{ text = 1.0 }}
[[run]]
name = "two"
seed = 2
[[run.stage]]
tokens = 800
sequence = 96
batch = 2
mixture = {{ text = 1.0 }}
[[mean]]
name = "both"
of = ["one", "two"]
[[run]]
name = "three"
start = "both"
seed = 3
model = {{ context_length = 128 }}
[[run.stage]]
tokens = 400
sequence = 96
batch = 2
mixture = {{ text = 1.0 }}
"""


@pytest.fixture
def recipe_file(tiny_tokenizer: Path, tmp_path: Path) -> Path:
    path = tmp_path / "toy.toml"
    path.write_text(TWO.format(tokenizer=tiny_tokenizer))
    return path


def test_runs_are_read_in_order(recipe_file: Path) -> None:
    runs = read_runs(recipe_file)
    assert [(r.name, r.after) for r in runs] == [
        ("one", ()), ("two", ("one",)), ("both", ("one", "two")), ("three", ("both",))
    ]  # fmt: skip
    assert [r.recipe.seed for r in runs if r.recipe.stages] == [1, 2, 3]
    assert [r.recipe.model.context_length for r in runs][-1] == 128
    assert {r.recipe.name for r in runs} == {"toy"}
    with pytest.raises(ConfigError, match="4 runs"):
        read_recipe(recipe_file)
    before = [r.recipe.digest() for r in runs]
    recipe_file.write_text(recipe_file.read_text().replace("seed = 2", "seed = 9"))
    changed = [r.recipe.digest() != digest for r, digest in zip(read_runs(recipe_file), before, strict=True)]
    assert changed == [False, True, True, True]  # what follows a changed run starts from other weights


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ('start = "both"', 'start = "four"', "starts from 'four'"), ('start = "both"', "start = []", "start is"),
        ('["one", "two"]', '["one", "four"]', "is of 'four'"), ('["one", "two"]', "3", "of is"),
        ('name = "two"', 'name = "one"', "name of a run"), ('name = "two"', 'name = "../x"', "name of a run"),
        ('name = "two"', "", "name of a run"), ('of = ["one", "two"]', 'of = ["one"]\nseed = 3', "a ..mean"),
        ("seed = 3", "seed = -3", "seed is"), ("seed = 3", "sed = 3", "unknown key"),
        ('[model]', "[[stage]]\ntokens = 1\n[model]", "run.stage"), ("{{ context_length = 128 }}", "3", "model is"),
    ],
)  # fmt: skip
def test_runs_that_cannot_be(before: str, after: str, named: str, tiny_tokenizer: Path, tmp_path: Path) -> None:
    assert before in TWO
    path = tmp_path / "recipe.toml"
    path.write_text(TWO.replace(before, after).format(tokenizer=tiny_tokenizer))
    with pytest.raises(ConfigError, match=named):
        read_runs(path)


def test_runs_that_are_cut_end_with_the_same_weights(recipe_file: Path, corpora: Path, tmp_path: Path) -> None:
    runs = read_runs(recipe_file)
    whole = dict((r.name, p) for r, p in train_runs(runs, corpora, tmp_path / "whole", compile_model=False))
    assert list(whole) == ["one", "two", "both", "three"]
    models = {name: load_model(path) for name, path in whole.items()}
    for name, tensor in models["both"].state_dict().items():
        parts = [models[part].state_dict()[name] for part in ("one", "two")]
        assert torch.equal(tensor, ((parts[0] + parts[1]) / 2).to(torch.bfloat16).float()), name

    cut = tmp_path / "cut"
    ((first, path),) = train_runs(runs, corpora, cut, compile_model=False, stop_after=2)
    assert (first.name, path.name) == ("one", "checkpoint.pt")
    with pytest.raises(ModelNotFound, match="the run one is not finished"):
        list(train_runs(runs, corpora, cut, only="two", compile_model=False))
    entries: list[dict[str, object]] = []
    again = dict((r.name, p) for r, p in train_runs(runs, corpora, cut, compile_model=False, report=entries.append))
    assert [entry["run"] for entry in entries] == ["one", "two", "three"]
    for name, path in again.items():
        assert load_model(path).card.model_fingerprint == models[name].card.model_fingerprint
    written = (cut / "one" / "checkpoint.pt").stat().st_mtime_ns
    assert [r.name for r, _ in train_runs(runs, corpora, cut, only="one")] == ["one"]
    assert (cut / "one" / "checkpoint.pt").stat().st_mtime_ns == written
    recipe_file.write_text(recipe_file.read_text().replace("seed = 2", "seed = 9"))
    with pytest.raises(CheckpointError, match="another recipe"):
        list(train_runs(read_runs(recipe_file), corpora, cut, compile_model=False))


def test_runs_on_shards_share_a_tokenizer_that_the_first_trains(
    recipe_file: Path, corpora: Path, tmp_path: Path
) -> None:
    text = "\n".join(line for line in recipe_file.read_text().splitlines() if not line.startswith("tokenizer"))
    recipe_file.write_text('tokenizer = ""\n' + text.replace("[model]", "[model]\nvocab_size = 300"))
    runs = read_runs(recipe_file)
    files = list(write_shards_of(runs, corpora, tmp_path / "shards"))
    assert [file.parent.name for file in files] == ["one", "two", "three"]
    tokenizers = [(tmp_path / "shards" / name / "tokenizer.json").read_bytes() for name in ("one", "two", "three")]
    assert len(set(tokenizers)) == 1
    made = list(train_runs(runs, None, tmp_path / "run", shards=tmp_path / "shards", compile_model=False))
    whole = list(train_runs(runs, corpora, tmp_path / "whole", compile_model=False))
    for (_, a), (_, b) in zip(made, whole, strict=True):
        assert load_model(a).card.model_fingerprint == load_model(b).card.model_fingerprint


def test_the_command(recipe_file: Path, corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", str(recipe_file), "--data", str(corpora), "-o", str(tmp_path / "run"), "--no-compile"]
    assert run([*command, "--steps", "2"]) == 2
    assert "add --run NAME" in capsys.readouterr().err
    assert run([*command, "--run", "four"]) == 2
    assert "one, two, both, three" in capsys.readouterr().err
    assert run([*command, "--run", "one", "--steps", "2"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "run" / "one" / "checkpoint.pt")
    assert run([*command, "--run", "three"]) == 4
    assert run(command) == 0
    output = capsys.readouterr()
    assert output.out.strip() == str(tmp_path / "run" / "three" / "toy")
    entries = [json.loads(line) for line in output.err.splitlines() if line.startswith("{")]
    assert [entry["run"] for entry in entries] == ["one", "two", "three"]
