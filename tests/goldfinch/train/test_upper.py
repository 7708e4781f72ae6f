"""Training the layers above prefill: they compute what a session computes, learn, keep what was right, and resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

import goldfinch
from goldfinch.errors import ConfigError, WeightsMismatch
from goldfinch.models.config import RopeConfig
from goldfinch.models.language_model import LanguageModel
from goldfinch.train.pointing.examples import Example, ExampleMaker
from goldfinch.train.pointing.loss import collate, pointer_loss
from goldfinch.train.pointing.plan import PointerPlan
from goldfinch.train.pointing.run import CHECKPOINT_FILE, _Run
from goldfinch.train.pointing.upper import Teacher, check_upper, collate_upper, upper_names, upper_stream
from goldfinch.train.recipe import Recipe
from goldfinch.train.trainer import export, train
from goldfinch.weights.files import read_weights, write_weights
from goldfinch.weights.fingerprints import prefill_keys
from tests.goldfinch.models.test_pointer import with_pointer

NOTES = "The lamp was lit in 1857. " * 30 + "\n\n" + "Only the cook, Abel Hartnoll, stayed for the winter. " * 20
ASKED = [("Who stayed?", "Abel Hartnoll"), ("When was it lit?", "1857"), ("Who left the house?", "Not stated.")]


@pytest.fixture
def model(tiny_model: Path) -> LanguageModel:
    return with_pointer(goldfinch.load_model(tiny_model))


def examples(model: LanguageModel, right: float = 1.0) -> list[Example]:
    plan = PointerPlan(1, {"window": 1.0}, right=right, wrong=0.0)
    return list(ExampleMaker(model, plan, keep_below=True).examples(NOTES, ASKED, Random(1)))


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_the_stream_is_that_of_the_product(model: LanguageModel, right: float) -> None:
    """Side by side, padded, with the rows of a block or of the whole document."""
    made = examples(model, right)
    lengths = {len(example.rows) for example in made}
    assert len(lengths) > 1 or right == 0.0
    found = upper_stream(model, collate_upper(made))
    for example, stream in zip(made, found, strict=True):
        wanted = example.stream.float()
        error = (stream[: len(wanted)] - wanted).abs().max()
        assert float(error) <= 0.02 * float(wanted.abs().max())  # what lies below is kept in bfloat16


def test_other_examples_change_nothing(model: LanguageModel) -> None:
    made = examples(model)
    together = upper_stream(model, collate_upper(made))
    for n, example in enumerate(made):
        alone = upper_stream(model, collate_upper([example]))[0]
        torch.testing.assert_close(together[n, : len(alone)], alone, rtol=1e-4, atol=1e-4)


def test_the_names_are_all_that_prefill_does_not_read(model: LanguageModel) -> None:
    every = {key for key, _ in model.named_parameters()}
    assert every - set(upper_names(model)) == set(prefill_keys(model.config, every))


def test_these_layers_learn_without_the_pointer(model: LanguageModel) -> None:
    made = examples(model)
    batch, above = collate(made), collate_upper(made)
    chosen = [p for key, p in model.named_parameters() if key in upper_names(model) and "pointer" not in key]
    optimizer = torch.optim.AdamW([p.requires_grad_(True) for p in chosen], lr=3e-3)
    losses = []
    for _ in range(40):
        found = pointer_loss(model, batch, upper_stream(model, above))
        found["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(found["answer_loss"]))
    assert losses[-1] < 0.2 * losses[0]


def test_the_teacher_holds_to_what_was_right(model: LanguageModel) -> None:
    stream = torch.randn(6, model.config.d_model)
    logits = model.logits(stream)
    right, teacher = logits.argmax(-1), Teacher(model)
    wrong = (right + 1) % model.config.vocab_size
    other = logits.roll(1, -1)

    def loss(values: Tensor, targets: Tensor) -> float:
        return float(teacher.loss(values, stream, targets))

    assert loss(logits, right) == pytest.approx(0.0, abs=1e-5)
    assert loss(other, right) > 0.01
    assert loss(other, wrong) == 0.0
    model.head.weight.data.mul_(-1)  # what it holds is its own
    assert loss(logits, right) == pytest.approx(0.0, abs=1e-5)


def plan(**values: Any) -> PointerPlan:
    mixture = {"window": 0.4, "kinds": 0.3, "strings": 0.1, "facts": 0.2}
    given = {"steps": 4, "mixture": mixture, "batch": 3, "first_examples": 6, "warmup_steps": 1, "train": "upper"}
    return PointerPlan(**(given | values))


@pytest.fixture
def start(recipe: Recipe, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return export(recipe, tmp_path / "start", LanguageModel(recipe.model))


@pytest.fixture
def upper(recipe: Recipe, start: Path) -> Recipe:
    config = replace(recipe.model, pointer_width=8)
    return replace(recipe, model=config, stages=(), start=(str(start),), pointer=plan())


def test_a_run_changes_nothing_that_prefill_reads(upper: Recipe, corpora: Path, start: Path, tmp_path: Path) -> None:
    quick = replace(upper, pointer=plan(learning_rate=2e-2, upper_rate=1.0))
    out = train(quick, corpora, tmp_path / "run")
    before, after = (read_weights(folder / "model.safetensors") for folder in (start, out))
    read = set(prefill_keys(upper.model, after))
    assert all(torch.equal(before[key].bfloat16(), after[key]) for key in read)
    changed = {key for key in before if not torch.equal(before[key].bfloat16(), after[key])}
    first = next(key for key in changed if key.startswith("blocks."))
    assert {"head.weight", "ln_out.weight", "w_kv_cache_b.weight", first} <= changed
    one, other = goldfinch.load_model(out).card, goldfinch.load_model(start).card
    assert one.prefill_fingerprint == other.prefill_fingerprint
    assert one.model_fingerprint != other.model_fingerprint


def test_an_interrupted_run_resumes(
    upper: Recipe, corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit: examples and what is kept come from the model that the run began with."""
    whole = train(upper, corpora, tmp_path / "whole")
    stopping = replace(upper, pointer=plan(save_seconds=0.0))  # saves after each step
    step: Callable[[Any], None] = _Run.one_step

    def stop_at_two(run: Any) -> None:
        step(run)
        if run.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(_Run, "one_step", stop_at_two)
    with pytest.raises(KeyboardInterrupt):
        train(stopping, corpora, tmp_path / "stopped")
    assert (tmp_path / "stopped" / CHECKPOINT_FILE).is_file()
    monkeypatch.setattr(_Run, "one_step", step)
    resumed = train(stopping, corpora, tmp_path / "stopped")
    one, other = (read_weights(folder / "model.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_weights_to_begin_with(upper: Recipe, corpora: Path, tmp_path: Path) -> None:
    """Those of the pointer alone, or of everything that is trained; not of a part of it."""
    model, file = LanguageModel(upper.model), tmp_path / "upper.safetensors"
    all_ = {key: torch.randn_like(p).bfloat16() for key, p in model.named_parameters() if key in upper_names(model)}
    pointers = {key: x for key, x in all_.items() if key.startswith("pointer.")}
    for n, weights in enumerate((all_, pointers)):
        write_weights(file, weights)
        begun = replace(upper, pointer=plan(steps=0, start=str(file)))
        made = read_weights(train(begun, corpora, tmp_path / f"run{n}") / "model.safetensors")
        assert all(torch.equal(made[key], tensor) for key, tensor in weights.items())
    write_weights(file, {key: x for key, x in all_.items() if key != "head.weight"})
    with pytest.raises(WeightsMismatch, match=r"head\.weight"):
        train(begun, corpora, tmp_path / "part")


def test_models_without_such_layers_are_refused(recipe: Recipe) -> None:
    check_upper(LanguageModel(recipe.model))
    for changed in ({"upper_time_mix": None}, {"rope": RopeConfig()}):
        with pytest.raises(ConfigError, match="GOLD layers without rotary"):
            check_upper(LanguageModel(replace(recipe.model, **changed)))
