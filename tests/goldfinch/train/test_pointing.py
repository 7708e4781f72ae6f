"""Training a pointer: what an example holds, that it learns to copy, that nothing else changes, that it resumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import gfcache
import pytest
import torch

import goldfinch
from goldfinch.datasets.facts import NOT_STATED, FactMaker
from goldfinch.datasets.kinds import HELD_OUT_KINDS, KINDS, kind_document
from goldfinch.datasets.strings import string_facts
from goldfinch.errors import CheckpointError, ConfigError, GoldFinchError
from goldfinch.models.language_model import LanguageModel
from goldfinch.train.pointing import run as pointer_run
from goldfinch.train.pointing.documents import window
from goldfinch.train.pointing.examples import Example, ExampleMaker
from goldfinch.train.pointing.loss import collate, pointer_loss
from goldfinch.train.pointing.plan import PointerPlan, read_plan
from goldfinch.train.recipe import Recipe
from goldfinch.train.trainer import export, train
from goldfinch.weights.files import read_weights, write_weights
from tests.full_disk import files_of_at_most
from tests.goldfinch.models.test_pointer import with_pointer

MAKER = FactMaker([f"Name{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(300)])
NOTES = "The lamp was lit in 1857. " * 30 + "\n\n" + "Only the cook, Abel Hartnoll, stayed for the winter. " * 20
ASKED = [("Who stayed?", "Abel Hartnoll"), ("When was it lit?", "1857"), ("Who left?", NOT_STATED)]


@pytest.fixture
def model(tiny_model: Path) -> LanguageModel:
    return with_pointer(goldfinch.load_model(tiny_model))


def examples(model: LanguageModel, right: float, wrong: float, most_blocks: int = 1) -> list[Example]:
    plan = PointerPlan(1, {"window": 1.0}, right=right, wrong=wrong, most_blocks=most_blocks)
    return list(ExampleMaker(model, plan).examples(NOTES, ASKED, Random(1)))


def test_an_example_reads_the_block_that_answers(model: LanguageModel) -> None:
    name, year, absent = examples(model, 1.0, 0.0)
    for example, answer in ((name, "Abel Hartnoll"), (year, "1857")):
        ids = example.document[0][example.rows.long()].tolist()
        assert example.places
        assert len(ids) < len(example.document[0])
        answer_ids = example.targets[:-1].tolist()
        assert all(ids[first : first + len(answer_ids)] == answer_ids for first in example.places)
        assert model.tokenizer.decode(answer_ids).strip() == answer
        assert example.targets[-1] == model.card.template.end_token_id
        assert example.stream.shape == (len(example.targets), model.config.d_model)
    assert absent.places == ()
    assert model.tokenizer.decode(absent.targets[:-1].tolist()).strip() == NOT_STATED


def test_several_blocks_are_read_together(model: LanguageModel) -> None:
    alone, together = examples(model, 1.0, 0.0), examples(model, 1.0, 0.0, most_blocks=2)
    assert {len(example.rows) for example in alone} < {len(example.rows) for example in together}
    assert [example.targets.tolist() for example in alone] == [example.targets.tolist() for example in together]
    assert all(example.places for example in together[:2])


def test_a_block_that_does_not_answer_says_so(model: LanguageModel) -> None:
    for example in examples(model, 0.0, 1.0):
        assert model.tokenizer.decode(example.targets[:-1].tolist()).strip() == NOT_STATED
        text = model.tokenizer.decode(example.document[0][example.rows.long()].tolist())
        asked = model.tokenizer.decode(example.question[0].tolist())
        assert ("Abel Hartnoll" in text) != ("Who stayed" in asked) or "Who left" in asked


def test_its_stream_is_what_a_session_has(model: LanguageModel) -> None:
    """With the same rows, the position that predicts the first token gives the logits of `Session.start`."""
    example = examples(model, 1.0, 0.0)[0]
    session = goldfinch.Session(model, goldfinch.prefill(model, example.document[0].long()[None]), read="all")
    rows = example.rows.long()
    breaks = torch.nonzero(rows.diff() > 1).flatten().tolist()
    starts, ends = [0, *(b + 1 for b in breaks)], [*(b + 1 for b in breaks), len(rows)]
    ranges = tuple((int(rows[a]), int(rows[b - 1]) + 1) for a, b in zip(starts, ends, strict=True))
    question = example.question[0].tolist()
    logits, _ = session.start(question, session._expanded(ranges), copies=False)
    found = model.logits(example.stream[:1].float())[0]
    assert float((found - logits).abs().max()) <= 0.05 * float(logits.abs().max())  # the stream is kept in bfloat16


def test_it_learns_to_copy(model: LanguageModel) -> None:
    batch = collate(examples(model, 1.0, 0.0))
    model.pointer.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.pointer.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        found = pointer_loss(model, batch)
        found["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append({key: loss.item() for key, loss in found.items()})
    assert losses[-1]["place_loss"] < 0.2 * losses[0]["place_loss"]
    assert losses[-1]["answer_loss"] < 0.2 * losses[0]["answer_loss"]


def test_padding_and_order_change_no_loss(model: LanguageModel) -> None:
    made = examples(model, 1.0, 0.0)
    together = pointer_loss(model, collate(made))["answer_loss"]
    counts = torch.tensor([len(example.targets) for example in made], dtype=torch.float32)
    alone = torch.stack([pointer_loss(model, collate([example]))["answer_loss"] for example in made])
    assert float(together) == pytest.approx(float((alone * counts).sum() / counts.sum()), rel=1e-4)


def plan(**values: Any) -> PointerPlan:
    mixture = {"window": 0.4, "kinds": 0.3, "strings": 0.1, "facts": 0.2}
    return PointerPlan(
        **({"steps": 4, "mixture": mixture, "batch": 3, "first_examples": 6, "warmup_steps": 1} | values)
    )


@pytest.fixture
def start(recipe: Recipe, tmp_path: Path) -> Path:
    """A model that has been trained, as far as anybody can tell."""
    torch.manual_seed(0)
    return export(recipe, tmp_path / "start", LanguageModel(recipe.model))


@pytest.fixture
def pointed(recipe: Recipe, start: Path) -> Recipe:
    """A run that adds a pointer to it."""
    config = replace(recipe.model, pointer_width=8)
    return replace(recipe, model=config, stages=(), start=(str(start),), pointer=plan())


def test_a_run_trains_the_pointer_alone(pointed: Recipe, corpora: Path, start: Path, tmp_path: Path) -> None:
    out = train(pointed, corpora, tmp_path / "run")
    before, after = (read_weights(folder / "model.safetensors") for folder in (start, out))
    assert {key for key in after if key not in before} == {key for key in after if key.startswith("pointer.")}
    assert all(torch.equal(before[key].bfloat16(), after[key]) for key in before)
    assert after["pointer.change.weight"].abs().max() > 0  # zero before the first step
    one, other = goldfinch.load_model(out), goldfinch.load_model(start)
    assert one.config.pointer_width == 8
    assert one.card.prefill_fingerprint == other.card.prefill_fingerprint
    assert one.card.model_fingerprint != other.card.model_fingerprint


def test_with_one_visit_every_example_is_seen_once() -> None:
    made = iter(range(10_000))

    class Maker:
        def examples(self, text: str, questions: Any, rng: Random) -> list[Any]:
            return [SimpleNamespace(number=next(made), rows=range(rng.randint(1, 9)), targets=()) for _ in range(5)]

    def seen(**values: Any) -> list[int]:
        pool = pointer_run._Pool(Maker(), lambda n: ("text", []), 1)  # type: ignore[arg-type]
        wanted = plan(batch=4, first_examples=0, **values)
        batches = []
        for step in range(2 * pointer_run.SORTED_BATCHES):
            pool.fill(wanted.examples_at(step))
            batches += pool.batch(wanted, step)
        forgotten = pool.count - len(pool.examples)
        assert forgotten == (4 * pointer_run.SORTED_BATCHES if wanted.visits == 1 else 0)
        return sorted(example.number - batches[0].number for example in batches)

    once = seen(visits=1.0)
    assert len(once) == len(set(once)) == once[-1] - once[0] + 1 == 4 * 2 * pointer_run.SORTED_BATCHES
    again = seen(visits=2.0)
    assert len(again) > len(set(again))


def test_a_pointer_is_grown(pointed: Recipe, corpora: Path, tmp_path: Path) -> None:
    """A run that starts from a pointer trains it with further looks at the question; without a step it is as it was."""
    first = train(pointed, corpora, tmp_path / "first")
    config = replace(pointed.model, pointer_looks=1)
    rates = {"steps": 1, "learning_rate": 0.0, "final_learning_rate": 0.0}
    grown = replace(pointed, model=config, start=(str(first),), pointer=plan(**rates))
    out = train(grown, corpora, tmp_path / "still")
    before, after = (read_weights(folder / "model.safetensors") for folder in (first, out))
    new = ("pointer.looks.", "pointer.runs", "pointer.signs", "pointer.question_neighbours.")
    assert {key for key in after if key.startswith(new)} == set(after) - set(before)
    assert all(torch.equal(before[key], after[key]) for key in before)
    signs = after["pointer.signs"]
    assert signs.sum(1).min() > 0  # tokens that end lines, that hold | or tab, and comma or semicolon
    out = train(replace(grown, pointer=plan()), corpora, tmp_path / "grown")
    trained = read_weights(out / "model.safetensors")
    assert trained["pointer.looks.0.blend.weight"].abs().max() > 0
    assert torch.equal(trained["pointer.signs"], signs)


def test_an_interrupted_run_resumes(
    pointed: Recipe, corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(pointed, corpora, tmp_path / "whole")
    stopping = replace(pointed, pointer=plan(save_seconds=0.0))  # saves after each step
    steps = pointer_run._Run.one_step

    def stop_at_two(run: Any) -> None:
        steps(run)
        if run.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(pointer_run._Run, "one_step", stop_at_two)
    with pytest.raises(KeyboardInterrupt):
        train(stopping, corpora, tmp_path / "stopped")
    made: list[int] = []
    monkeypatch.setattr(pointer_run._Run, "one_step", lambda run: made.append(run.step) or steps(run))
    resumed = train(stopping, corpora, tmp_path / "stopped")
    assert made == [2, 3]
    one, other = (read_weights(folder / "model.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(one[key], other[key]) for key in one)
    with pytest.raises(CheckpointError, match="another plan"):
        train(replace(pointed, pointer=plan(seed=9)), corpora, tmp_path / "stopped")
    (tmp_path / "stopped" / pointer_run.CHECKPOINT_FILE).write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="damaged"):
        train(stopping, corpora, tmp_path / "stopped")


def test_weights_to_begin_with(pointed: Recipe, corpora: Path, tmp_path: Path) -> None:
    """Without a step they are the model's pointer as they are; of another width they are refused."""
    weights = LanguageModel(pointed.model).pointer.state_dict()
    file = tmp_path / "pointer.safetensors"
    write_weights(file, {key: torch.randn_like(tensor).bfloat16() for key, tensor in weights.items()})
    begun = replace(pointed, pointer=plan(steps=0, start=str(file)))
    made, given = read_weights(train(begun, corpora, tmp_path / "run") / "model.safetensors"), read_weights(file)
    assert all(torch.equal(made[f"pointer.{key}"], tensor) for key, tensor in given.items())
    wider = replace(begun, model=replace(pointed.model, pointer_width=16))
    with pytest.raises(GoldFinchError, match="shape"):
        train(wider, corpora, tmp_path / "wider")


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"steps": 0}, "above 0"), ({"steps": "many"}, "'many'"), ({"colour": 1}, "colour"), ({"visits": 0.5}, "visits"),
        ({"right": 0.9, "wrong": 0.3}, "shares"), ({"mixture": 3}, "mixture"), ({"mixture": {"facts": -1}}, "mixture"),
        ({"batch": 1.5}, "batch"), ({"start": 3}, "file name"), ({"train": "lower"}, "pointer, upper"),
        ({"absent": 1.5}, "shares"), ({"learning_rate": -1.0}, "learning_rate"),
    ],
)  # fmt: skip
def test_plans_that_are_refused(values: dict[str, Any], found: str) -> None:
    good: dict[str, Any] = {"steps": 2, "mixture": {"facts": 1.0}}
    assert read_plan(good, True).batch == 48
    with pytest.raises(ConfigError, match=found):
        read_plan(good | values, True)
    with pytest.raises(ConfigError, match="pointer_width"):
        read_plan(good, False)


def test_an_unknown_kind_is_refused(pointed: Recipe, corpora: Path, tmp_path: Path) -> None:
    with pytest.raises(GoldFinchError, match="no_such"):
        train(replace(pointed, pointer=plan(mixture={"no_such": 1.0})), corpora, tmp_path)


@pytest.mark.parametrize("held_out", [False, True])
def test_documents_of_kinds_state_their_answers(held_out: bool) -> None:
    absent = 0
    for seed in range(120):
        text, pairs = kind_document(MAKER, Random(seed), held_out=held_out)
        assert len(text) > 60
        assert all(answer in text for _, answer in pairs if answer != NOT_STATED)
        absent += sum(answer == NOT_STATED for _, answer in pairs)
    assert absent > 20


def test_held_out_kinds_are_never_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[str] = set()

    def noted(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: used.add(name) or make(*arguments)

    for name, make in list(KINDS.items()):
        monkeypatch.setitem(KINDS, name, noted(name, make))
    for seed in range(60):
        kind_document(MAKER, Random(seed))
    assert used == set(KINDS) - set(HELD_OUT_KINDS)


@pytest.mark.parametrize("held_out", [False, True])
def test_strings_stand_in_their_statements(held_out: bool) -> None:
    longest = 0
    for seed in range(60):
        for fact in string_facts(MAKER, Random(seed), 6, held_out=held_out):
            assert all(value in fact.statement for _, value in fact.questions)
            longest = max(longest, *(len(value) for _, value in fact.questions if value.isdigit()), 0)
    assert longest > 60


def test_a_window_asks_about_what_it_holds(corpora: Path) -> None:
    from goldfinch.datasets.articles import read_articles

    articles = read_articles(corpora, lambda key: True)
    for seed in range(10):
        text, pairs = window(Random(seed), articles, 200)
        assert pairs
        assert all(answer in text for _, answer in pairs if answer != NOT_STATED)


def test_a_full_disk_is_said_and_leaves_the_checkpoint(
    pointed: Recipe, corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.save made a RuntimeError of it: a bug of ours, as it looked."""
    saved = pointer_run._Run.save

    def on_a_full_disk(run: Any) -> None:
        with files_of_at_most(1_000):
            saved(run)

    pointer = replace(pointed, pointer=plan(save_seconds=0.0))
    checkpoint = tmp_path / "run" / pointer_run.CHECKPOINT_FILE
    train(replace(pointed, pointer=plan(steps=1)), corpora, tmp_path / "run")
    before = checkpoint.read_bytes()
    monkeypatch.setattr(pointer_run._Run, "save", on_a_full_disk)
    monkeypatch.setattr(pointer_run._Run, "resume", lambda run: None)
    with pytest.raises(gfcache.CacheWriteError, match=r"pointer.pt: cannot write these [\d,]{4,} bytes"):
        train(pointer, corpora, tmp_path / "run")
    assert checkpoint.read_bytes() == before
    assert not list(checkpoint.parent.glob(".*"))
