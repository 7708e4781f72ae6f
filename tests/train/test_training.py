"""The trainer at toy size: it learns, survives being cut, and its data is what it should be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from goldfinch import load_model
from goldfinch.config import presets
from goldfinch.errors import CheckpointError, ConfigError, GoldFinchError
from goldfinch.evaluate.scoring import exact_match, f1
from goldfinch.measure.conditions import processor_features
from goldfinch.model import LanguageModel
from goldfinch.tokenizer import read_tokenizer
from goldfinch.train import throughput
from goldfinch.train.corpora import data_directory
from goldfinch.train.data import TASKS, WIDTHS, TrainingData, wrap
from goldfinch.train.facts import NOT_STATED
from goldfinch.train.optimizers import build_optimizers
from goldfinch.train.recipe import Recipe, Stage, read_recipe
from goldfinch.train.trainer import TEMPLATE, train

RECIPES = Path(__file__).parents[2] / "goldfinch" / "train" / "recipes"


def test_a_cut_run_ends_with_the_same_weights(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    assert recipe.total_steps == 8
    whole = train(recipe, corpora, tmp_path / "whole", compile_model=False)
    for stop in (1, 3, 6, None):
        cut = train(recipe, corpora, tmp_path / "cut", compile_model=False, stop_after=stop)
    a, b = load_model(whole), load_model(cut)
    assert a.card.model_fingerprint == b.card.model_fingerprint
    assert a.tokenizer is not None
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 3, 6, 8]
    other = replace(recipe, model=replace(recipe.model, d_ffn=128))
    with pytest.raises(CheckpointError, match="another recipe"):
        train(other, corpora, tmp_path / "cut", compile_model=False)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_with_workers_and_any_optimizer_is_the_same_when_cut(
    optimizer: str, recipe: Recipe, corpora: Path, tmp_path: Path
) -> None:
    recipe = replace(recipe, optimizer=optimizer)
    whole = train(recipe, corpora, tmp_path / "whole", compile_model=False)
    for stop in (3, None):
        cut = train(recipe, corpora, tmp_path / "cut", compile_model=False, stop_after=stop, workers=2)
    assert load_model(whole).card.model_fingerprint == load_model(cut).card.model_fingerprint
    entry = json.loads((tmp_path / "cut" / "log.jsonl").read_text().splitlines()[-1])
    assert entry["tokens"] == 4 * 96 * 2 + 4 * 128 * 2
    assert 0 < entry["peak_share"] < 1
    other = replace(recipe, optimizer="muon" if optimizer == "adamw" else "adamw")
    with pytest.raises(CheckpointError, match="another recipe"):
        train(other, corpora, tmp_path / "cut", compile_model=False)


@pytest.mark.parametrize("preset", ["llama-tiny", "finch-tiny", "finch_c2-tiny", "gptalpha-tiny"])
def test_baselines_are_trained_alike(preset: str, recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    model = replace(presets()[preset], vocab_size=300)
    stages = (Stage(30 * 96 * 4, 96, 4, {"text": 1.0}),)
    entries: list[dict[str, float]] = []
    path = train(
        replace(recipe, model=model, stages=stages),
        corpora,
        tmp_path / "run",
        compile_model=False,
        report=entries.append,
    )
    assert entries[-1]["loss"] < entries[0]["loss"] - 0.2
    assert load_model(path).config.model_type == model.model_type


def test_a_run_goes_on_with_its_own_recipe_only(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    train(recipe, corpora, tmp_path, compile_model=False, stop_after=2)
    for changed in (replace(recipe, seed=2), replace(recipe, learning_rate=1e-3)):
        with pytest.raises(CheckpointError, match="another recipe"):
            train(changed, corpora, tmp_path, compile_model=False, stop_after=3)
    train(replace(recipe, save_seconds=1.0), corpora, tmp_path, compile_model=False, stop_after=3)


def test_no_answer_is_taught_that_was_cut_off(recipe: Recipe, corpora: Path, tiny_tokenizer: Path) -> None:
    tokenizer = read_tokenizer(tiny_tokenizer)
    data = TrainingData(corpora, recipe, tokenizer, TEMPLATE)
    document = "The gate is green. " + "Nothing happened. " * 60 + "The roof is\nblue slate."
    questions = [("Gate?", "green"), ("Roof?", "blue slate"), ("Mood?", "calm"), ("Owner?", NOT_STATED)]
    ids, _ = data._pack(Random(0), document, questions, 400)
    text = tokenizer.decode(ids)
    assert len(ids) == 401
    assert "Gate?" in text
    assert "Roof?" not in text  # its answer stood in the part that was cut
    assert "Mood?" in text  # answered in other words than the document's
    assert "Owner?" in text
    whole = tokenizer.decode(data._pack(Random(0), document, questions, 2000)[0])
    assert "Roof?" in whole


def test_packed_sequences_have_no_room_left(recipe: Recipe, corpora: Path, tiny_tokenizer: Path) -> None:
    tokenizer = read_tokenizer(tiny_tokenizer)
    shares = {}
    for packed in (False, True):
        data = TrainingData(corpora, replace(recipe, packed=packed), tokenizer, TEMPLATE)
        ids, _ = data._pack(Random(0), "A short text.", [("Long?", "no")], 300)
        _, weights = data._pack(Random(0), "A short text.", [("Long?", "no")], 300)
        assert len(ids) == len(weights) == 301
        assert all(weights[n] == 0 for n, token in enumerate(ids) if n and token == TEMPLATE.bos_token_id)
        shares[packed] = sum(weight == 0 for weight in weights) / 301
    assert shares[False] > 0.5
    assert shares[True] < 0.1


def test_invented_words_are_explained_in_the_text(recipe: Recipe, corpora: Path, tiny_tokenizer: Path) -> None:
    data = TrainingData(corpora, recipe, read_tokenizer(tiny_tokenizer), TEMPLATE)
    document, questions = TASKS["definitions"](data, Random(3), Stage(10**6, 1000, 1, {}, (3, 6)))
    assert 3 <= len(questions) <= 5
    assert all(answer in document for _, answer in questions)


def test_paragraphs_beside_one_another_are_not_asked_for_what_one_does_not_say(
    recipe: Recipe, corpora: Path, tiny_tokenizer: Path
) -> None:
    data = TrainingData(corpora, recipe, read_tokenizer(tiny_tokenizer), TEMPLATE)
    seen = {True: 0, False: 0}
    for seed in range(60):
        text, questions = TASKS["qa"](data, Random(seed), Stage(10**6, 2400, 1, {}))
        alone = any(text == passage.text for passage in data.passages)
        seen[alone] += any(answer == NOT_STATED for _, answer in questions)
    assert seen[True] > 0
    assert seen[False] == 0


def test_lines_are_broken_where_the_recipe_says_so(recipe: Recipe, corpora: Path, tiny_tokenizer: Path) -> None:
    """Between words, at one width per document; without it the batches stay what they were."""
    text = "One two three four-five.\nsix " + "x" * 30 + " seven"
    assert wrap(text, 12) == "One two\nthree\nfour-five.\nsix\n" + "x" * 30 + "\nseven"
    tokenizer = read_tokenizer(tiny_tokenizer)
    recipe = replace(recipe, stages=(Stage(10**6, 400, 4, {"text": 1.0}),))
    longest = {}
    for share in (0.0, 1.0):
        data = TrainingData(corpora, replace(recipe, wrapped=share), tokenizer, TEMPLATE)
        rows = [row.tolist() for step in range(6) for row in data.batch(step)[0]]
        longest[share] = max(len(line) for row in rows for line in tokenizer.decode(row).split("\n"))
    assert longest[1.0] <= WIDTHS[1] < longest[0.0]


def test_articles_are_read_in_their_order_with_questions_from_all_paragraphs(
    recipe: Recipe, corpora: Path, tiny_tokenizer: Path
) -> None:
    tokenizer = read_tokenizer(tiny_tokenizer)
    recipe = replace(recipe, stages=(Stage(10**6, 2400, 1, {"article": 1.0}),))
    data = TrainingData(corpora, recipe, tokenizer, TEMPLATE)
    texts = [tokenizer.decode(data.batch(step)[0][0].tolist()) for step in range(4)]
    assert all("Josiah Pellow" in text and "Abel Hartnoll" in text for text in texts)
    assert all("Who built it?" in text and "Who kept bees?" in text for text in texts)
    first, second = data.articles[0]
    assert (first.questions[0][0], second.questions[0][0]) == ("Who kept bees?", "Who built it?")
    _, _, weights = data.batch(0)
    assert (weights == recipe.answer_weight).any()


def test_articles_are_asked_for_what_stands_in_paragraphs_left_out(
    recipe: Recipe, corpora: Path, tiny_tokenizer: Path
) -> None:
    elsewhere = {"Who kept bees?": "Who built it?", "Who built it?": "Who kept bees?"}
    for share in (0.0, 1.0):
        stage = Stage(10**6, 800, 1, {"article": 1.0})  # room for one paragraph
        changed = replace(recipe, stages=(stage,), absent_questions=share)
        data = TrainingData(corpora, changed, read_tokenizer(tiny_tokenizer), TEMPLATE)
        for seed in range(8):
            text, questions = TASKS["article"](data, Random(seed), stage)
            own = "Who built it?" if "Josiah Pellow" in text else "Who kept bees?"
            answer = "Josiah Pellow" if own == "Who built it?" else "Abel Hartnoll"
            assert questions == ([(elsewhere[own], NOT_STATED)] if share else [(own, answer)])


def test_muon_orthogonalises_matrices_only(recipe: Recipe) -> None:
    model = LanguageModel(recipe.model)
    of_matrices, rest = build_optimizers(model, replace(recipe, optimizer="muon"))
    matrices = {id(p) for group in of_matrices.param_groups for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in matrices}
    assert "blocks.0.att.receptance.weight" in names
    assert not names & {"emb.weight", "head.weight", "w_kv_cache_a.weight", "blocks.0.att.time_maa_w1"}
    others = {id(p) for group in rest.param_groups for p in group["params"]}
    assert matrices | others == {id(p) for p in model.parameters()}
    assert not matrices & others


def test_a_run_can_start_from_a_model(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    first = train(recipe, corpora, tmp_path / "first", compile_model=False)
    second = replace(recipe, start=(str(first),), learning_rate=0.0, final_learning_rate=0.0)
    again = train(second, corpora, tmp_path / "second", compile_model=False)
    assert load_model(again).card.model_fingerprint == load_model(first).card.model_fingerprint


def test_a_recipe_without_a_stage_writes_the_mean_of_models(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    paths = [
        train(replace(recipe, seed=seed), corpora, tmp_path / f"{seed}", compile_model=False, stop_after=None)
        for seed in (1, 2)
    ]
    mean = replace(recipe, start=tuple(map(str, paths)), stages=())
    models = [load_model(path).state_dict() for path in (*paths, train(mean, corpora, tmp_path / "mean"))]
    for name, tensor in models[2].items():
        expected = ((models[0][name] + models[1][name]) / 2).to(torch.bfloat16).float()
        assert torch.equal(tensor, expected), name
    path = tmp_path / "empty.toml"
    path.write_text('name = "x"\ntokenizer = ""\n')
    with pytest.raises(ConfigError, match="stage"):
        read_recipe(path)


WITHOUT_BF16 = pytest.mark.skipif(not processor_features(), reason="no bf16 instructions here: it takes minutes")


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=WITHOUT_BF16)])
def test_the_loss_falls(precision: str, recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    longer = replace(recipe, stages=(Stage(40 * 96 * 4, 96, 4, {"text": 1.0}),), precision=precision)
    entries: list[dict[str, float]] = []
    train(longer, corpora, tmp_path / "run", compile_model=False, report=entries.append)
    assert entries[-1]["loss"] < entries[0]["loss"] - 0.3


def test_steps_in_bfloat16_are_close_to_those_in_float32(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    losses = {}
    for precision in ("float32", "bfloat16"):
        short = replace(recipe, stages=(Stage(3 * 32 * 2, 32, 2, {"text": 1.0}),), precision=precision)
        train(short, corpora, tmp_path / precision, compile_model=False)
        lines = (tmp_path / precision / "log.jsonl").read_text().splitlines()
        losses[precision] = json.loads(lines[-1])["loss"]
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)


def test_a_slow_matrix_product_is_timed_at_a_small_size(monkeypatch) -> None:
    seen = []

    def seconds(side: int, device: torch.device, dtype: torch.dtype, repeats: int) -> float:
        seen.append(side)
        return side**3 * 1e-9

    monkeypatch.setattr(throughput, "_product_seconds", seconds)
    assert throughput.matrix_rate(torch.device("cpu"), torch.bfloat16) == pytest.approx(2e9)
    assert seen == [256, 512, 512]


def test_batches(recipe: Recipe, corpora: Path, tiny_tokenizer: Path) -> None:
    tokenizer = read_tokenizer(tiny_tokenizer)
    data = TrainingData(corpora, recipe, tokenizer, TEMPLATE)
    for step in range(8):
        ids, targets, weights = data.batch(step)
        length = recipe.stage_of(step).sequence
        assert ids.shape == targets.shape == weights.shape == (2, length)
        assert torch.equal(ids[:, 1:], targets[:, :-1])
        again = data.batch(step)
        assert all(torch.equal(a, b) for a, b in zip((ids, targets, weights), again, strict=True))
        # Every answer is preceded by the template's words and ended by the end token.
        for row_targets, row_weights in zip(targets, weights, strict=True):
            answer = [int(t) for t, w in zip(row_targets, row_weights, strict=True) if w == recipe.answer_weight]
            if answer:
                assert answer[-1] == TEMPLATE.end_token_id
    assert not torch.equal(data.batch(0)[0], data.batch(1)[0])
    bad = replace(recipe, stages=(Stage(100, 10, 1, {"riddles": 1.0}),))
    with pytest.raises(GoldFinchError, match="unknown task"):
        TrainingData(corpora, bad, tokenizer, TEMPLATE)


def test_the_shipped_recipe_reads() -> None:
    for path in RECIPES.glob("*.toml"):
        model = LanguageModel(read_recipe(path).model)
        assert 2 * sum(p.numel() for p in model.parameters()) < 24e6  # bytes in bf16: what may be shipped
    recipe = read_recipe(RECIPES / "gf-mini.toml")
    assert recipe.model.model_type == "goldfinch"
    rates = [recipe.learning_rate_at(step) for step in range(recipe.total_steps)]
    assert rates[0] < rates[recipe.warmup_steps] == recipe.learning_rate
    assert rates[-1] < rates[-100]


@pytest.mark.parametrize(
    "text", ["name = ", 'name = "x"', 'colour = "red"\n[[stage]]\ntokens = 1', '[model]\npreset = "none"']
)
def test_bad_recipes(text: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(ConfigError):
        read_recipe(tmp_path / "recipe.toml")


@pytest.mark.parametrize("most", ['"16 MB"', "0", "1.5", "true"])
def test_the_size_of_weight_files_is_checked_before_training(most: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'name = "x"\ntokenizer = ""\nstart = "y"\nmax_shard_bytes = {most}\n')
    with pytest.raises(ConfigError, match="max_shard_bytes is"):
        read_recipe(path)


def test_missing_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GF_DATA_DIR", raising=False)
    with pytest.raises(GoldFinchError, match="no training data"):
        data_directory()
    with pytest.raises(GoldFinchError, match="does not exist"):
        data_directory("/no/such/folder")


def test_scores() -> None:
    assert exact_match("The Admiral Benbow.", ["admiral benbow"])
    assert not exact_match("Benbow", ["Admiral Benbow"])
    assert f1("a seafaring man", ["seafaring man with one leg"]) == pytest.approx(2 * 1 * 0.4 / 1.4)
    assert f1("nothing", ["something"]) == 0
