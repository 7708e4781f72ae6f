"""Executors: some rows of a document as those of the whole, packed documents, and when one is chosen again."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from gfkernels.native import build as native
from torch import Tensor

import goldfinch
from goldfinch.backends.choose import choose_executor
from goldfinch.models import torch_executor
from goldfinch.models.config import ModelConfig, RopeConfig
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.memory import GoldMemory
from goldfinch.models.state import GoldDocument, LayerState
from tests import tolerances
from tests.executors import run_with

T = 130
ROWS = ((0, 1), (17, 40), (41, 42), (64, 100), (123, T))
BACKENDS = ["torch", pytest.param("native", marks=pytest.mark.skipif(native.unavailable() is not None, reason="none"))]


@pytest.fixture(params=[None, RopeConfig()], ids=["plain", "rope"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    """Every weight random: those that start at zero would hide what they multiply."""
    torch.manual_seed(0)
    config = ModelConfig(n_layer=4, d_model=64, d_ffn=96, vocab_size=80, head_dim=32, layer_ratio=2, rope=request.param)
    model = LanguageModel(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape) * (0.3 if p.dim() > 1 else 0.5))
    return model.requires_grad_(False)


def document_of(model: LanguageModel, distinct: int = 80) -> GoldDocument:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, distinct, (1, T), generator=generator)
    return GoldDocument(ids, torch.randn(1, T, model.config.d_compressed, generator=generator))


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("distinct", [3, 80])  # with three, each pair of tokens is computed once in the whole
def test_some_rows_are_those_of_the_whole(backend: str, distinct: int, model: LanguageModel, monkeypatch) -> None:
    run_with(backend, model, monkeypatch)
    document = document_of(model, distinct)
    with torch.no_grad():
        whole, some = model.executor.expand(document), model.executor.expand(document, rows=ROWS)
    assert some.length == T
    assert some.rows == ROWS
    at = some.positions()
    assert at.tolist() == [n for start, end in ROWS for n in range(start, end)]
    assert whole.expanded is not None
    assert some.expanded is not None
    for pair, part in zip(whole.expanded, some.expanded, strict=True):
        for x, found in zip(pair, part, strict=True):
            assert found.shape == (1, len(at), model.config.d_model)
            assert apart(found, x[:, at]) <= tolerances.PATHS_FP32


def test_whole_blocks_have_the_same_bits(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of as many rows round alike."""
    monkeypatch.setattr(torch_executor, "REBUILD_BLOCK", 32)
    document = document_of(model)
    with torch.no_grad():
        whole, some = model.executor.expand(document), model.executor.expand(document, rows=((32, 64), (96, 128)))
    assert whole.expanded is not None
    assert some.expanded is not None
    for pair, part in zip(whole.expanded, some.expanded, strict=True):
        for x, found in zip(pair, part, strict=True):
            assert torch.equal(found, x[:, some.positions()])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("queries", [1, 5, 11])
def test_queries_see_the_rows_that_are_held(backend: str, queries: int, model: LanguageModel, monkeypatch) -> None:
    """Against attention written out, with the queries inside the last rows and behind them."""
    run_with(backend, model, monkeypatch)
    config, document = model.config, document_of(model)
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(0, 80, (1, 4), generator=generator)
    c = torch.randn(1, 4, config.d_compressed, generator=generator)
    q = torch.randn(1, config.n_head, queries, config.head_dim, generator=generator)
    with torch.no_grad():
        whole = GoldMemory(model.executor, model.executor.expand(document)).append(ids, c)
        some = GoldMemory(model.executor, model.executor.expand(document, rows=ROWS)).append(ids, c)
        assert some.document is not None
        held = torch.cat([some.document.positions(), torch.arange(T, T + 4)])
        for index in range(config.n_gold):
            assert whole.document is not None
            assert whole.document.expanded is not None
            k, v = (
                torch.cat([x, recent.rows], dim=1)[:, held].unflatten(-1, (-1, config.head_dim)).transpose(1, 2)
                for x, recent in zip(whole.document.expanded[index], whole.expanded[index], strict=True)
            )
            scores = q.double() @ k.double().transpose(-1, -2) / config.head_dim**0.5
            later = held[None] > torch.arange(T + 4 - queries, T + 4)[:, None]
            expected = scores.masked_fill(later, -torch.inf).softmax(-1) @ v.double()
            assert apart(some.attend(index, q), expected) <= tolerances.PATHS_FP32


@pytest.mark.parametrize("backend", BACKENDS)
def test_decoding_over_some_rows(backend: str, model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows of a document in two ranges give what the document gives."""
    run_with(backend, model, monkeypatch)
    cache = goldfinch.prefill(model, document_of(model).token_ids)
    assert cache.compressed_k is not None
    document = GoldDocument(cache.ids_on(model.device), cache.compressed_k)
    token = torch.tensor([[7]])
    found = []
    with torch.no_grad():
        for rows in (None, ((0, 50), (50, T))):
            memory = GoldMemory(model.executor, model.executor.expand(document, rows))
            found.append(model(token, replace(cache.state, memory=memory))[0])
    assert apart(found[1], found[0]) <= tolerances.PATHS_FP32


def test_packed_documents_are_single_ones(model: LanguageModel) -> None:
    """The twin of packing runs one document after the other."""
    ids, empty = document_of(model).token_ids, model.empty_state().layers
    with torch.no_grad():
        x, states = model.executor.lower_layers(ids, empty, (100, 30))
        alone, last = model.executor.lower_layers(ids[:, 100:], empty)
    assert torch.equal(x[:, 100:], alone)
    for one, other in zip(states, last, strict=True):
        for a, b in zip(one.select(slice(1, 2)).tensors(), other.tensors(), strict=True):
            assert torch.equal(a, b)


def test_states_of_a_batch() -> None:
    one, other = (LayerState(torch.full((1, 2, 3, 3), n), torch.full((1, 4), n)) for n in (1.0, 2.0))
    both = LayerState.stack([one, other])
    assert both.channel_shift_state is None
    assert [tuple(x.shape) for x in both.tensors()] == [(2, 2, 3, 3), (2, 4)]
    for a, b in zip(both.select(torch.tensor([1])).tensors(), other.tensors(), strict=True):
        assert torch.equal(a, b)
    assert both.map(torch.zeros_like).tensors()[0].sum() == 0


@pytest.mark.skipif(native.unavailable() is not None, reason="no native kernels")
def test_the_executor_follows_the_model(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other arithmetic is another choice; a copy has its own; replaced weights are laid out anew."""
    assert model.executor.name == "torch"
    run_with("auto", model, monkeypatch)
    assert model.executor.name == "native"
    twin = copy.deepcopy(model)
    assert twin.executor.name == "native"
    assert twin.executor is not model.executor
    token, empty = torch.tensor([[3]]), model.empty_state()
    with torch.no_grad():
        before = model(token, empty)[0]
        assert torch.equal(twin(token, empty)[0], before)
        weights = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
        twin.load_state_dict(weights, assign=True)
        assert not twin(token, empty)[0].any()
        assert torch.equal(model(token, empty)[0], before)
    assert twin.double().executor.name == "torch"
    assert choose_executor(model, "torch").name == "torch"
