"""The model without torch beside the one with it: shapes, layers, GOLD layers in turn, pointer; whole = chunked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gfkernels.native.build import unavailable

import goldfinch
from goldfinch import Session, open_cache, prefill
from goldfinch.backends.light import LightExecutor
from goldfinch.models.config import ModelConfig
from goldfinch.models.executor import WITHOUT_TORCH
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.memory import GoldMemory
from goldfinch.models.running.light_model import LightModel
from goldfinch.models.running.light_shapes import light_shapes
from goldfinch.models.state import GoldDocument
from goldfinch.weights.loading import empty_model
from tests import tolerances
from tests.goldfinch.models.test_pointer import with_pointer

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
IDS = np.random.default_rng(0).integers(2, 200, (1, 70))
QUESTION = np.array([[5, 6, 7, 9, 33, 34, 35, 12]])
CONFIG = ModelConfig(n_layer=5, d_model=64, d_ffn=96, vocab_size=256, head_dim=32)


def light(model: LanguageModel) -> LightModel:
    """The same weights without torch."""
    weights = {key: value.numpy() for key, value in model.state_dict().items()}
    made = LightModel(model.config, weights, LightExecutor)
    made.tokenizer, made.card = model.tokenizer, model.card
    return made


@pytest.fixture(params=[0, 2])
def pair(tiny_model: Path, request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """A model with torch, with a pointer whose rows look at the question once or again and again, and without torch."""
    model = with_pointer(goldfinch.load_model(tiny_model), looks=request.param)
    return model, light(model)


def alike(found: Any, expected: Any, tolerance: float = tolerances.SPLIT_FP32) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, n_layer=4, layer_ratio=2, compression_ratio=8),
        replace(CONFIG, pointer_width=16),
        replace(CONFIG, pointer_width=32, pointer_looks=2),
    ],
)
def test_shapes_are_those_of_the_modules(config: ModelConfig) -> None:
    assert light_shapes(config) == {key: tuple(value.shape) for key, value in empty_model(config).state_dict().items()}


@torch.no_grad()
@pytest.mark.parametrize("blocks", [(70,), (1, 69), (64, 6), (33, 1, 36)])
def test_the_lower_layers(pair: tuple[Any, Any], blocks: tuple[int, ...]) -> None:
    model, without = pair
    expected, end = model.run_prefill_layers(torch.from_numpy(IDS), model.empty_state())
    state, rows, at = without.empty_state(), [], 0
    for count in blocks:
        x, state = without.run_prefill_layers(IDS[:, at : at + count], state)
        rows.append(x)
        at += count
    alike(np.concatenate(rows, 1), expected)
    for mine, other in zip(state.layers, end.layers, strict=True):
        for one, two in zip(mine.tensors(), other.tensors(), strict=True):
            alike(one, two)


@torch.no_grad()
def test_states_are_values(pair: tuple[Any, Any]) -> None:
    _, model = pair
    _, state = model.run_prefill_layers(IDS, model.empty_state())
    kept = [np.array(one) for layer in state.layers for one in layer.tensors()]
    once, twice = (model.run_prefill_layers(QUESTION, state)[0] for _ in range(2))
    assert np.array_equal(once, twice)
    assert all(map(np.array_equal, kept, [one for layer in state.layers for one in layer.tensors()]))


def held(model: Any, document: GoldDocument, rows: Any) -> GoldMemory:
    """A memory that holds keys and values of some rows."""
    return GoldMemory(model.executor, model.executor.expand(document, rows))


@torch.no_grad()
def asked(model: Any, question: Any, rows: Any) -> tuple[Any, Any, Any]:
    """The logits behind a document and a question, what the pointer found, and those after two more tokens."""
    ids = model.row_of(IDS[0])
    x, state = model.run_prefill_layers(ids, model.empty_state())
    document = GoldDocument(ids, model.compress_keys(x))
    state = replace(state, memory=held(model, document, rows))
    tail = [x[:, -model.config.tail_length :]]
    if question.shape[1]:
        y, state = model.run_prefill_layers(model.row_of(question[0]), state)
        state = model.remember(state, model.row_of(question[0]), model.compress_keys(y))
        tail.append(y)
    both = torch.cat(tail, 1) if isinstance(x, torch.Tensor) else np.concatenate(tail, 1)
    x, state = model.run_gold_layers(both[:, -model.config.tail_length :], state)
    state = model.point(state)
    first, found = model.first_logits(x[:, -1:], state), model.found(x[:, -1:], state)
    for token in (40, 41):
        later, state = model(model.row_of([token]), state)
    return first, found, later


@pytest.mark.parametrize("rows", [None, ((0, 1), (10, 24), (30, 41), (65, 70)), ((0, 1), (20, 21), (67, 70))])
@pytest.mark.parametrize("question", [QUESTION, QUESTION[:, :2], QUESTION[:, :1], QUESTION[:, :0]])
def test_a_question_behind_a_document(pair: tuple[Any, Any], question: Any, rows: Any) -> None:
    """Also questions shorter than the tail, so that rows of the document pass the GOLD layers."""
    (expected, evidence, later), (found, mine, then) = (asked(model, question, rows) for model in pair)
    alike(found, expected, 1e-4)
    alike(then, later, 1e-4)
    assert mine == pytest.approx(evidence, rel=1e-4, abs=1e-5)


@torch.no_grad()
def test_what_was_copied(pair: tuple[Any, Any]) -> None:
    shares = []
    for model in pair:
        ids = model.row_of(IDS[0])
        x, state = model.run_prefill_layers(ids, model.empty_state())
        document = GoldDocument(ids, model.compress_keys(x))
        state = replace(state, memory=held(model, document, None))
        y, state = model.run_prefill_layers(model.row_of(QUESTION[0]), state)
        state = model.point(model.remember(state, model.row_of(QUESTION[0]), model.compress_keys(y)))
        shares.append(model.copied(y[:, -2:], model.row_of(IDS[0, 5:7]), state.pointing))
    alike(shares[1], shares[0], 1e-4)
    assert np.asarray(shares[0]).any()


def test_cold_equals_warm(pair: tuple[Any, Any], tmp_path: Path) -> None:
    """Held, and saved and opened again: the same bits of logits and answers, with no token of the document computed."""
    _, model = pair
    warm = prefill(model, model.row_of(np.tile(IDS[0], 9)))
    warm.save(tmp_path / "doc.gfc")
    sessions = [Session(model, cache) for cache in (warm, open_cache(tmp_path / "doc.gfc", model))]
    assert sessions[1].cache.numerics.backend == WITHOUT_TORCH
    for question in (QUESTION[0].tolist(), [7]):
        one, other = (np.asarray(session.start(question)[0]) for session in sessions)
        assert np.array_equal(one, other)
        one, other = (session.generate(question, max_tokens=9) for session in sessions)
        assert one == other
        assert sessions[1].last_usage.document_tokens_computed == 0
