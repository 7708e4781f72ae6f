"""Quantisation as the papers' code does it: what is read before the first token of an answer, and what behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gfcache import Coding

from goldfinch import LanguageModel, Session, load_model
from goldfinch.caching.row_parts import Form
from goldfinch.compare.asked_rounding import obstacle_to_asking, session_of
from goldfinch.engine.base import Start
from goldfinch.engine.goldfinch import GoldFinchEngine
from goldfinch.engine.prefill import prefill
from goldfinch.foreign.running.coding import rounded_values
from goldfinch.models.memory import GoldMemory
from tests.goldfinch.foreign.running.tiny import random_ids, tiny_engine
from tests.goldfinch.states import document

T = 300
QUESTION = random_ids(9, 1).tolist()


def form(codec: str) -> Form:
    return Form(Coding(codec))


@pytest.fixture
def llama() -> Any:
    engine = tiny_engine("llama", context_length=1024)
    return engine, engine.prefill_from(Start(), random_ids(T))


def test_kivi_reads_a_question_from_rows_as_computed_and_answers_from_rounded_ones(llama: Any) -> None:
    engine, whole = llama
    rounded = engine.coded(whole, form("kivi2"))
    first, plain = engine.session(whole).start(QUESTION, 4)
    logits, layers = session_of(engine, whole, form("kivi2")).start(QUESTION, 4)
    assert torch.equal(logits, first)
    for one, other, held, before in zip(
        layers.layers, plain.layers, rounded.state.layers, whole.state.layers, strict=True
    ):
        assert torch.equal(one.keys[0, :, :T], held.keys)
        assert torch.equal(one.values[0, :, :T], held.values)
        assert torch.equal(one.keys[0, :, T:], other.keys[0, :, T:])
        assert not torch.equal(held.keys, before.keys)
    asked = session_of(engine, whole, form("kivi2"))
    assert asked.ask("abc", max_tokens=6).text == asked.ask("abc", max_tokens=6).text  # it begins anew


@pytest.mark.parametrize("name", ["goldfinch_ratio2", "llama_rope"])
def test_kivi_with_models_of_ours(name: str, imported: Callable[[str], Path]) -> None:
    model = load_model(imported(name))
    engine, whole = GoldFinchEngine(model), prefill(model, document(model, T))
    first, plain = Session(model, whole).start(QUESTION)
    logits, after = session_of(engine, whole, form("kivi2")).start(QUESTION)
    assert torch.equal(logits, first)
    later = Session(model, engine.coded(whole, form("kivi2")))
    if model.config.n_gold:
        assert isinstance(after.memory, GoldMemory)
        assert isinstance(plain.memory, GoldMemory)
        expected = later.document_state.memory
        assert isinstance(expected, GoldMemory)
        documents = [memory.document for memory in (after.memory, expected)]
        mine, theirs = ([pair[0] for pair in one.expanded or ()] for one in documents if one is not None)
        assert len(mine) == model.config.n_gold
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
        assert torch.equal(after.memory.compressed_k.rows, plain.memory.compressed_k.rows)
        return
    for one, other, rounded in zip(after.layers, plain.layers, later.cache.state.layers, strict=True):
        assert torch.equal(one.keys.rows[:, :T], rounded.keys.rows)
        assert torch.equal(one.values.rows[:, T:], other.values.rows[:, T:])
        assert not torch.equal(one.values.rows[:, :T], other.values.rows[:, :T])


def test_flexgen_rounds_every_row_before_anything_attends_to_it(llama: Any) -> None:
    engine, whole = llama
    session = session_of(engine, whole, form("flexgen4"))
    state, from_a_file = session.cache.state, engine.coded(whole, form("flexgen4")).state
    assert torch.equal(state.layers[0].keys, from_a_file.layers[0].keys)  # which rest on nothing that was rounded
    assert torch.equal(state.layers[0].values, from_a_file.layers[0].values)
    assert not torch.equal(state.layers[1].keys, from_a_file.layers[1].keys)
    _, layers = session.start(QUESTION, 4)
    for layer in layers.layers:  # those of the question, too
        for rows in (layer.keys, layer.values):
            again = rounded_values(rows, "flexgen4", rounding())
            torch.testing.assert_close(again, rows, rtol=1e-3, atol=1e-3)
            assert not torch.equal(rows[:, :, T:], torch.zeros_like(rows[:, :, T:]))
    _, plain = engine.session(whole).start(QUESTION, 4)
    apart = rounded_values(plain.layers[0].keys[:, :, T:], "flexgen4", rounding()) - layers.layers[0].keys[:, :, T:]
    assert float(apart.abs().max()) < 1e-4
    assert session.ask("abc", max_tokens=6).text == session.ask("abc", max_tokens=6).text


def rounding() -> Any:
    from gfcache import layout
    from gfcache.codecs.tokens import Where

    return Where(layout.KV_VALUES)


def test_what_reads_as_from_a_file_is_not_measured_twice(imported: Callable[[str], Path]) -> None:
    models: list[LanguageModel] = [load_model(imported(name)) for name in ("goldfinch_ratio2", "llama_rope")]
    assert "rests on no key" in str(obstacle_to_asking(models[0], "flexgen4"))
    assert "from files alone" in str(obstacle_to_asking(models[1], "flexgen4"))
    assert all(obstacle_to_asking(model, "kivi4") is None for model in models)
    assert obstacle_to_asking(tiny_engine("llama").model, "flexgen4") is None
