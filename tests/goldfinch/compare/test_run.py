"""A tiny model with a few methods: one pre-fill for all, nothing twice, and the same report after an interruption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import goldfinch
from goldfinch.compare import run as module
from goldfinch.compare.methods import FULL, methods_of
from goldfinch.compare.rows import Rows
from goldfinch.compare.run import Compared, ModelRun, Options
from goldfinch.compare.summary import Summary, summary_of
from goldfinch.compare.tasks.material import Material
from goldfinch.compare.tasks.registry import tasks_of
from goldfinch.engine.goldfinch import GoldFinchEngine
from goldfinch.errors import GoldFinchError

OPTIONS = Options(methods_of(["int8", "h2o-0.5"]), tasks_of(["facts"]), [300], questions=10)


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> GoldFinchEngine:
    return GoldFinchEngine(goldfinch.load_model(tiny_model))


@pytest.fixture
def prefills(engine: GoldFinchEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Token counts of the pre-fills, the one that looks whether a model is trained left out."""
    done: list[int] = []
    prefill = engine.prefill

    def counted(prompt: Any, **options: Any) -> Any:
        done.append(len(prompt.token_ids))
        return prefill(prompt, **options)

    monkeypatch.setattr(engine, "prefill", counted)
    monkeypatch.setattr(module, "is_untrained", lambda engine, text: False)
    return done


def compared(engine: GoldFinchEngine, folder: Path, options: Options = OPTIONS, **more: Any) -> Compared:
    return ModelRun(engine, "tiny", options, Material(None), Rows(folder / "rows.jsonl"), **more).run()


def quality(found: Compared, options: Options = OPTIONS) -> list[tuple[Any, ...]]:
    summary: Summary = summary_of([found], options)
    return [(c.method, c.task, c.tokens, c.score, c.difference, c.answer_tokens) for c in summary.cells]


def test_one_prefill_serves_all_methods(engine: GoldFinchEngine, prefills: list[int], tmp_path: Path) -> None:
    steps: list[Any] = []
    found = compared(engine, tmp_path, tell=steps.append)
    assert steps[0].total_s is None
    assert 0 < steps[1].spent_s < steps[1].total_s
    assert len(prefills) == 2  # documents of five questions each
    assert [row.key.method for row in found.rows] == [one.name for one in OPTIONS.methods] * 2
    assert all(len(row.scores) == 5 for row in found.rows)
    by_method = {row.key.method: row for row in found.rows}
    assert by_method["int8"].bytes["rows"] < 0.5 * by_method[FULL].bytes["rows"]
    assert by_method["h2o-0.5"].bytes["rows"] < 0.9 * by_method[FULL].bytes["rows"]
    assert by_method["int8"].making_s > 0 == by_method[FULL].making_s
    summary = summary_of([found], OPTIONS)
    assert {cell.difference is None for cell in summary.cells if cell.method == FULL} == {True}
    assert any(cost.on_front for cost in summary.costs)


def test_what_is_there_is_not_done_again(engine: GoldFinchEngine, prefills: list[int], tmp_path: Path) -> None:
    first = compared(engine, tmp_path)
    before, rows = len(prefills), (tmp_path / "rows.jsonl").read_bytes()
    again = compared(engine, tmp_path)
    assert len(prefills) == before
    assert again.rows == first.rows
    assert (tmp_path / "rows.jsonl").read_bytes() == rows
    more = replace(OPTIONS, methods=methods_of(["int8", "h2o-0.5", "step2"]))
    later = compared(engine, tmp_path, more)
    assert len(prefills) == before + 2
    assert [row for row in later.rows if row.key.method != "step2"] == first.rows


def test_an_interrupted_run_ends_with_the_same_report(
    engine: GoldFinchEngine, prefills: list[int], tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = compared(engine, tmp_path / "whole")

    def interrupted(step: Any) -> None:
        if "document 2" in step.words:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compared(engine, tmp_path / "cut", tell=interrupted)
    before = len(prefills)
    assert quality(compared(engine, tmp_path / "cut")) == quality(whole)
    assert len(prefills) == before + 1


def test_a_row_is_written_before_the_next_method_begins(
    engine: GoldFinchEngine, prefills: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document that was interrupted is pre-filled once more, for the methods that are left alone."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = compared(engine, tmp_path / "whole")
    asked: list[str] = []
    ask = module.ask

    def interrupted(*arguments: Any) -> Any:
        asked.append(arguments[3].name)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return ask(*arguments)

    monkeypatch.setattr(module, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compared(engine, tmp_path / "cut")
    spent = compared(engine, tmp_path / "cut", replace(OPTIONS, budget_s=-1.0))
    assert [row.key.method for row in spent.rows] == asked[:2] == [FULL, "int8"]
    before = len(prefills)
    found = compared(engine, tmp_path / "cut")
    assert asked[3:] == ["h2o-0.5", *(one.name for one in OPTIONS.methods)]
    assert len(prefills) == before + 2
    assert quality(found) == quality(whole)


def test_rows_of_something_else_are_not_taken(engine: GoldFinchEngine, prefills: list[int], tmp_path: Path) -> None:
    compared(engine, tmp_path)
    before = len(prefills)
    compared(engine, tmp_path, replace(OPTIONS, seed=1))
    assert len(prefills) == 2 * before


def test_the_time_is_spread_and_kept(
    engine: GoldFinchEngine, prefills: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every document takes ten seconds of a clock of the test's own, in which no method takes any."""
    clock = [0.0]
    ask = module.ask

    def slow(*arguments: Any) -> Any:
        clock[0] += 5.0
        return ask(*arguments)

    monkeypatch.setattr(module, "ask", slow)
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    options = replace(OPTIONS, methods=methods_of(["int8"]), tasks=tasks_of(["facts", "pairs"]), questions=1000)
    steps: list[Any] = []
    found = compared(engine, tmp_path, replace(options, budget_s=45.0), tell=steps.append)
    assert [step.total_s for step in steps] == [45.0] * 4  # of a budget; before anything was timed, too
    assert len(prefills) == 4
    assert {(c.task, c.score.documents) for c in summary_of([found], options).cells} == {("facts", 2), ("pairs", 2)}
    assert compared(engine, tmp_path, replace(options, budget_s=45.0)).rows == found.rows
    assert len(prefills) == 4
    (tmp_path / "none").mkdir()
    none = compared(engine, tmp_path / "none", replace(options, budget_s=-1.0))
    assert not none.rows
    assert [one.reason for one in none.not_run] == ["the time was spent"] * 2


def test_what_fails_is_named_and_the_others_go_on(
    engine: GoldFinchEngine, prefills: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coded: Callable[..., Any] = engine.coded

    def fails(cache: Any, form: Any) -> Any:
        if form.coding.rows == "int8":
            raise GoldFinchError("no room")
        return coded(cache, form)

    monkeypatch.setattr(engine, "coded", fails)
    found = compared(engine, tmp_path)
    assert {row.key.method for row in found.rows} == {FULL, "h2o-0.5"}
    (lack,) = found.not_run
    assert (lack.method, lack.task, lack.tokens) == ("int8", "facts", 300)
    assert "no room" in lack.reason
    assert len(prefills) == 2


def test_what_cannot_be_is_named(engine: GoldFinchEngine, prefills: list[int], tmp_path: Path) -> None:
    options = Options(methods_of(["read-lexical"]), tasks_of(["article", "language", "passkey-64"]), [150], questions=1)
    found = compared(engine, tmp_path, options)
    reasons = {(one.method, one.task): one.reason for one in found.not_run}
    assert "no corpus-wikipedia-00" in reasons[None, "article"] or "no train_qa" in reasons[None, "article"]
    assert reasons["read-lexical", "language"] == "it reads text to continue whole"
    assert reasons[None, "passkey-64"] == module.NO_DOCUMENT
    (row,) = found.rows
    assert row.key.method == FULL
    assert all(score > 4 for score in row.scores)  # bits for each token, of a model that knows nothing
    assert len(prefills) == 1


def test_rows_that_a_question_chooses(engine: GoldFinchEngine, prefills: list[int], tmp_path: Path) -> None:
    """Beside those of the same share in a file; never on the front, for no file holds them."""
    options = replace(OPTIONS, methods=methods_of(["h2o-0.5", "h2o-0.5@question"]), tasks=tasks_of(["facts", "code"]))
    found = compared(engine, tmp_path, options)
    assert prefills
    summary = summary_of([found], options)
    (gap,) = summary.gaps
    assert (gap.method, gap.task, gap.gap.questions) == ("h2o-0.5", "facts", 10)
    assert gap.gap.value == pytest.approx(gap.asked.value - gap.before.value)
    assert [cost.on_front for cost in summary.costs if cost.method.endswith("@question")] == [False]
    sizes = {cost.method: cost.parts["rows"] for cost in summary.costs}
    assert sizes["h2o-0.5@question"] < 0.9 * sizes[FULL]
    assert ("there is no question to read", "code") in {(one.reason, one.task) for one in found.not_run}


def test_random_weights_are_noticed(engine: GoldFinchEngine, tmp_path: Path) -> None:
    options = replace(OPTIONS, questions=1, budget_s=-1.0)
    assert compared(engine, tmp_path, options).untrained
    mini = GoldFinchEngine(goldfinch.load_model())
    assert not ModelRun(mini, "mini", options, Material(None), Rows(tmp_path / "rows.jsonl")).found.untrained
