"""The recurrent layers through the C kernels and through torch: one model, one answer; caches say which it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gfkernels import BackendUnavailable
from gfkernels.native import build as native

import goldfinch
from goldfinch.backends.native.executor import NativeExecutor
from goldfinch.caching.numerics import numerics_difference, numerics_of
from goldfinch.models.state import GoldDocument
from tests import tolerances
from tests.conftest import golden_folders
from tests.executors import run_with
from tests.goldfinch.states import assert_states_equal

RECURRENT = ["goldfinch_ratio2", "finch_gold", "finchc2"]
EVERY = sorted(name for name in golden_folders() if "gptalpha" not in name and "llama" not in name)
pytestmark = pytest.mark.skipif(native.unavailable() is not None, reason=str(native.unavailable()))
T = 150


def prefill_with(backend: str, model, monkeypatch, pieces: tuple[int, ...] = (T,)):
    run_with(backend, model, monkeypatch)
    ids = torch.randint(0, model.config.vocab_size, (1, T), generator=torch.Generator().manual_seed(0))
    state, out, at = model.empty_state(), [], 0
    with torch.no_grad():
        for n in pieces:
            x, state = model.run_prefill_layers(ids[:, at : at + n], state)
            out.append(x)
            at += n
    assert at == T
    return torch.cat(out, 1), state


def rms(x: torch.Tensor) -> float:
    return float(x.double().pow(2).mean().sqrt())


@pytest.mark.parametrize("name", EVERY)
def test_native_layers_equal_torch_layers(name: str, imported: Callable[[str], Path], monkeypatch) -> None:
    exact, exact_state = prefill_with("torch", goldfinch.load_model(imported(name), dtype=torch.float64), monkeypatch)
    model = goldfinch.load_model(imported(name))
    for backend in ("torch", "native"):
        x, state = prefill_with(backend, model, monkeypatch)
        assert float((x - exact).abs().max()) <= tolerances.SPLIT_FP32 * float(exact.abs().max())
        assert_states_equal(state.layers, exact_state.layers, tolerances.SPLIT_FP32)


@pytest.mark.parametrize("name", RECURRENT)
def test_bfloat16_is_no_less_exact_than_torch(name: str, imported: Callable[[str], Path], monkeypatch) -> None:
    """Weights rounded once, float64 as the judge: fewer roundings on the way."""
    model = goldfinch.load_model(imported(name), dtype=torch.bfloat16)
    exact, _ = prefill_with("torch", goldfinch.load_model(imported(name), dtype=torch.bfloat16).double(), monkeypatch)
    native_error = rms(prefill_with("native", model, monkeypatch)[0] - exact)
    torch_error = rms(prefill_with("torch", model, monkeypatch)[0] - exact)
    assert native_error <= 1.1 * torch_error
    assert native_error <= tolerances.SPLIT_BF16_RMS * rms(exact)


@pytest.mark.parametrize("pieces", [(1,) * T, (63, 64, 23), (64, 65, 21), (100, 1, 1, 48)])
def test_split_invariance(pieces: tuple[int, ...], imported: Callable[[str], Path], monkeypatch) -> None:
    model = goldfinch.load_model(imported("goldfinch_ratio2"))
    whole, end = prefill_with("native", model, monkeypatch)
    split, split_end = prefill_with("native", model, monkeypatch, pieces)
    assert float((whole - split).abs().max()) <= tolerances.SPLIT_FP32 * float(whole.abs().max())
    for one, other in zip(end.layers, split_end.layers, strict=True):
        if one.wkv_state is not None:
            scale = float(one.wkv_state.abs().max())
            assert float((one.wkv_state - other.wkv_state).abs().max()) <= tolerances.SPLIT_FP32 * scale


def test_changed_weights_are_noticed(imported: Callable[[str], Path], monkeypatch) -> None:
    """The float32 copies of small vectors follow the weights."""
    model = goldfinch.load_model(imported("finchc2"))
    before, _ = prefill_with("native", model, monkeypatch)
    with torch.no_grad():
        model.blocks[1].att.time_decay += 0.5
    after, _ = prefill_with("native", model, monkeypatch)
    assert not torch.equal(before, after)
    expected, _ = prefill_with("torch", model, monkeypatch)
    assert float((after - expected).abs().max()) <= tolerances.SPLIT_FP32 * float(expected.abs().max())
    halved, _ = prefill_with("native", model.to(torch.bfloat16), monkeypatch)
    assert halved.dtype == torch.bfloat16


def test_the_backend_is_part_of_the_numerics(imported: Callable[[str], Path], monkeypatch) -> None:
    model = goldfinch.load_model(imported("goldfinch_ratio2"))
    ids = torch.zeros(1, 5, dtype=torch.int64)
    cache = goldfinch.prefill(model, ids)
    assert cache.numerics.backend == "native"
    run_with("torch", model, monkeypatch)
    assert numerics_of(model).backend == "torch"
    assert numerics_difference(cache.numerics, model) == ("backend", "native", "torch")


def test_where_the_kernels_do_not_fit(imported: Callable[[str], Path], monkeypatch) -> None:
    model = goldfinch.load_model(imported("goldfinch_ratio2"), dtype=torch.float64)
    assert "float64" in str(NativeExecutor.obstacle(model))
    assert model.executor.name == "torch"
    llama = goldfinch.load_model(imported("llama_rope"))
    assert "recurrent" in str(NativeExecutor.obstacle(llama))
    monkeypatch.setenv("GF_KERNELS", "native")
    with pytest.raises(BackendUnavailable, match="float64"):
        goldfinch.load_model(imported("goldfinch_ratio2"), dtype=torch.float64)
    with pytest.raises(BackendUnavailable, match="float64"):
        goldfinch.load_model(imported("goldfinch_ratio2")).double()


@pytest.mark.parametrize("name", [n for n in EVERY if "gold" in n])
@pytest.mark.parametrize("pieces", [(T,), (1, 63, 86), (2, 148)])
def test_native_keys_and_values_equal_torch(name: str, pieces, imported: Callable[[str], Path], monkeypatch) -> None:
    """Whole and in pieces with the row before them; float64 as the judge."""

    def rebuilt(backend: str, dtype: torch.dtype) -> list[torch.Tensor]:
        monkeypatch.setenv("GF_KERNELS", backend)
        model = goldfinch.load_model(imported(name), dtype=dtype)
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(0, model.config.vocab_size, (1, T), generator=generator)
        c = torch.randn(1, T, model.config.d_compressed, generator=generator, dtype=torch.float64).to(dtype)
        parts, at = [], 0
        with torch.no_grad():
            for n in pieces:
                previous = (ids[:, at - 1 : at], c[:, at - 1 : at]) if at else None
                parts.append(model.executor.rebuild(ids[:, at : at + n], c[:, at : at + n], previous, at))
                at += n
        return [torch.cat([part[i][j] for part in parts], 1) for i in range(model.config.n_gold) for j in (0, 1)]

    exact = rebuilt("torch", torch.float64)
    found = rebuilt("native", torch.float32)
    assert len(found) == len(exact)
    for one, other in zip(found, exact, strict=True):
        assert one.shape == other.shape
        assert float((one - other).abs().max()) <= tolerances.PATHS_FP32 * float(other.abs().max())


@pytest.mark.parametrize("name", [n for n in EVERY if "gold" in n])
@pytest.mark.parametrize("block", [7, 64, 2048])
def test_each_pair_of_tokens_once_equals_every_row(name: str, block: int, imported, monkeypatch) -> None:
    """A document of few distinct pairs: the short way, block borders and the first row included."""
    from goldfinch.backends.native import gold as gold_native

    model = goldfinch.load_model(imported(name))
    ids = torch.randint(0, 5, (1, T), generator=torch.Generator().manual_seed(0))
    c = torch.randn(1, T, model.config.d_compressed, generator=torch.Generator().manual_seed(1))
    distinct = gold_native.DistinctPairs.of(ids[0])
    assert distinct.pay_off
    assert len(distinct.now) <= 26
    assert not gold_native.DistinctPairs.of(torch.arange(T)).pay_off
    document = GoldDocument(ids, c)
    monkeypatch.setattr(gold_native, "REBUILD_BLOCK", block)
    with torch.no_grad():
        found = model.executor.expand(document).expanded
        monkeypatch.setattr(gold_native, "PAIRS_SHARE", 0.0)
        expected = model.executor.expand(document).expanded
    assert found is not None
    assert expected is not None
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            assert float((a - b).abs().max()) <= tolerances.PATHS_FP32 * float(b.abs().max())
