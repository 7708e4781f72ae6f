"""Recipes: those that are shipped, and those that no run could use."""

from __future__ import annotations

from pathlib import Path

import pytest

from goldfinch.errors import ConfigError
from goldfinch.models.language_model import LanguageModel
from goldfinch.text.tokenizer import read_tokenizer
from goldfinch.train.bpe import SAMPLE, sample_of, train_bpe
from goldfinch.train.recipe import read_recipe, read_runs

from .records import write_records

ROOT = Path(__file__).parents[3]
RECIPES = ROOT / "goldfinch" / "train" / "recipes"
COMPARE, LONG = ROOT / "bench" / "compare.toml", ROOT / "bench" / "compare-long.toml"


def test_the_shipped_recipe_reads() -> None:
    paths = sorted(RECIPES.glob("*.toml"))
    assert [path.name for path in paths] == ["gf-mini-2.toml", "gf-mini-3.toml", "gf-mini.toml", "gf-small-gpu.toml"]
    for path in (*paths, COMPARE, LONG):
        model = LanguageModel(read_runs(path)[-1].recipe.model)
        assert 2 * sum(p.numel() for p in model.parameters()) < 24e6  # bytes in bf16: what may be shipped
    long, short = (read_runs(path)[-1].recipe for path in (LONG, COMPARE))
    assert long.stages[:-1] == short.stages
    assert long.stages[-1].sequence == long.model.context_length == 4096
    pointed = [*read_runs(RECIPES / "gf-mini-2.toml"), *read_runs(RECIPES / "gf-mini-3.toml")]
    steps = [run.recipe.pointer.steps for run in pointed if run.recipe.pointer]
    assert steps == [272, 129, 400, 330, 420, 1104, 594, 1200, 124, 400]
    assert all(not run.recipe.stages for run in pointed)
    runs = read_runs(RECIPES / "gf-mini.toml")
    assert [run.after for run in runs][-4:] == [
        ("articles", "documents", "settled"), ("mean",), ("tables",), ("mean", "tables", "balanced")
    ]  # fmt: skip
    for recipe in (run.recipe for run in runs if run.recipe.stages):
        assert recipe.model.model_type == "goldfinch"
        rates = [recipe.learning_rate_at(step) for step in range(recipe.total_steps)]
        assert rates[0] < max(rates)
        assert max(rates) == pytest.approx(recipe.learning_rate, rel=1e-2)
        assert rates[-1] < rates[-100]
        if recipe.decay_share <= 0.9:  # else the fall begins before the warm-up ends
            assert rates[recipe.warmup_steps] == recipe.learning_rate


@pytest.mark.parametrize(
    "text", ["name = ", 'name = "x"', 'colour = "red"\n[[stage]]\ntokens = 1', '[model]\npreset = "none"']
)
def test_bad_recipes(text: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(ConfigError):
        read_recipe(tmp_path / "recipe.toml")


def test_a_recipe_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('name = "x"\n[[stage]]\ntokens = 100\nsequence = 10\nbatch = 1\nmixture = { text = 1.0 }\n')
    with pytest.raises(ConfigError, match="has no tokenizer") as refused:
        read_recipe(path)
    assert 'tokenizer = ""' in str(refused.value.hint)
    path.write_text('tokenizer = ""\n' + path.read_text().replace("batch = 1\n", ""))
    with pytest.raises(ConfigError, match=r"a \[\[stage\]\] in the recipe has no batch"):
        read_recipe(path)


def test_a_tokenizer_is_trained_on_what_the_recipe_names(tmp_path: Path) -> None:
    """The first run of gf-mini keeps its sample; other corpora need none of those."""
    assert sample_of(read_runs(RECIPES / "gf-mini.toml")[0].recipe) == list(SAMPLE)
    path = tmp_path / "recipe.toml"
    path.write_text(
        'name = "x"\ntokenizer = ""\ncorpora = ["mine"]\n[[stage]]\ntokens = 100\nsequence = 10\nbatch = 1\n'
        "mixture = { text = 1.0 }\n"
    )
    recipe = read_recipe(path)
    assert [name for name, _ in sample_of(recipe)] == ["mine"]
    write_records(tmp_path / "mine.jsonl.zst", [{"title": "a", "text": "The keeper of the light. " * 50}])
    train_bpe(tmp_path, recipe, tmp_path / "tokenizer.json")
    assert len(read_tokenizer(tmp_path / "tokenizer.json").encode("The keeper of the light.")) < 12


@pytest.mark.parametrize("most", ['"16 MB"', "0", "1.5", "true"])
def test_the_size_of_weight_files_is_checked_before_training(most: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'name = "x"\ntokenizer = ""\nstart = "y"\nmax_shard_bytes = {most}\n')
    with pytest.raises(ConfigError, match="max_shard_bytes is"):
        read_recipe(path)


@pytest.mark.parametrize("tokenizer", ["a\\u0000b", "a" * 300])
def test_a_tokenizer_that_no_file_can_be(tokenizer: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'name = "x"\ntokenizer = "{tokenizer}"\n{STAGE}')
    with pytest.raises(ConfigError, match="tokenizer is"):
        read_recipe(path)


VALID = 'name = "x"\ntokenizer = ""\n'


STAGE = "[[stage]]\ntokens = 1\nsequence = 1\nbatch = 1\nmixture = { text = 1.0 }\n"


@pytest.mark.parametrize("name", ["", ".", "..", "/tmp", "a/b", "../x", "a\\u0000b", "a" * 250])
def test_a_model_is_written_into_the_run_folder_only(name: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'name = "{name}"\ntokenizer = ""\n{STAGE}')
    with pytest.raises(ConfigError, match="name is"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("seed = -1", "seed is"), ("seed = 9223372036854775808", "seed is"), ('warmup_steps = "many"', "warmup_steps is"),
        ("learning_rate = nan", "learning_rate is"), ("clip_norm = true", "clip_norm is"), ("wrapped = 2", "wrapped is"),
        ("betas = [1]", "betas is"), ("betas = [0.9, 1.0]", "betas is"), ('packed = "no"', "packed is"),
        ('corpora = ["a\\u0000b"]', "corpora is"), (f'corpora = ["{"a" * 300}"]', "corpora is"), ('start = ["a\\u0000"]', "start is"),
        ("corpora = [1]", "corpora is"), ("corpora = 1", "corpora is"), ("model = 3", "as a table"),
        ("[model]\npreset = [1]", "preset"), ("[model]\ncontext_length = 0", "context_length is"),
    ],
)  # fmt: skip
def test_values_that_no_run_could_use(text: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(VALID + STAGE)
    read_recipe(path)
    path.write_text(f"{VALID}{text}\n{STAGE}")
    with pytest.raises(ConfigError, match=named):
        read_recipe(path)


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("tokens = 1", "tokens = 1.5", "tokens of"), ("batch = 1", "batch = 0", "batch of"),
        ("sequence = 1", 'sequence = "x"', "sequence of"), ("{ text = 1.0 }", "{}", "mixture of"),
        ("text = 1.0", "text = -1.0", "mixture of"), ("text = 1.0", "text = 0", "mixture of"),
        ("batch = 1", "batch = 1\nfacts = [3]", "facts of"), ("batch = 1", "batch = 1\nfacts = [3, 2]", "facts of"),
        ("sequence = 1", "sequence = 100000000", "tokens a step"), ("batch = 1", f"batch = {2**63 - 1}", "tokens a step"),
        ("tokens = 1", f"tokens = {2**63 - 1}", "in all"), ("batch = 1", "batch = 1\nfacts = [1, 1000000000]", "facts of"),
        ("batch = 1", "batch = 1\nfacts = 3", "facts is"), ("batch = 1", "", "has no batch"), (STAGE, "stage = [3]", "as tables"),
    ],
)  # fmt: skip
def test_stages_that_no_run_could_use(before: str, after: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(VALID + STAGE.replace(before, after))
    with pytest.raises(ConfigError, match=named):
        read_recipe(path)
