"""Answering from the file equals answering without ever saving, bit for bit, with no token recomputed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gfkernels import BackendUnavailable

import goldfinch
from goldfinch import Session, open_cache, prefill
from tests.conftest import golden_folders
from tests.executors import run_with
from tests.goldfinch.states import assert_equal_caches, document

NAMES = sorted(golden_folders())
RECURRENT = ["goldfinch_ratio2", "finch_gold", "finchc2"]
DTYPES = [torch.float32, torch.bfloat16, torch.float64]
QUESTION = [5, 9, 200, 31, 7]
KEPT, REBUILT = 1 << 30, 0  # bytes of memory for keys and values

Load = Callable[..., goldfinch.LanguageModel]


@pytest.fixture
def load(imported: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a golden model that one executor runs; skips where it cannot."""

    def loaded(name: str, dtype: torch.dtype, executor: str, device: str = "cpu") -> goldfinch.LanguageModel:
        model = goldfinch.load_model(imported(name), dtype=dtype, device=device)
        try:
            run_with(executor, model, monkeypatch)
        except BackendUnavailable as error:
            pytest.skip(str(error))
        assert model.executor.name == executor
        return model

    return loaded


def check(load: Callable[[], goldfinch.LanguageModel], path: Path, length: int = 700, answer_tokens: int = 12) -> None:
    """One document, held and reloaded: the same bits of the cache, of logits and of answers."""
    model = load()
    warm = prefill(model, document(model, length).to(model.device))
    warm.save(path)
    reloaded = load()
    cold = open_cache(path, reloaded)
    assert_equal_caches(warm, cold)
    for memory_bytes in (KEPT, REBUILT):
        warm_session = Session(model, warm, memory_bytes=memory_bytes)
        cold_session = Session(reloaded, cold, memory_bytes=memory_bytes)
        for question in (QUESTION, [1]):
            logits, _ = warm_session.start(question)
            assert torch.equal(logits, cold_session.start(question)[0])
        answer = warm_session.generate(QUESTION, max_tokens=answer_tokens)
        assert answer == cold_session.generate(QUESTION, max_tokens=answer_tokens)
        usage = cold_session.last_usage
        assert usage.document_tokens_computed == 0
        assert usage.document_tokens_cached == length
        tail = model.config.tail_length if model.config.n_gold else 0
        assert usage.tail_tokens_replayed == max(tail - len(QUESTION), 0)


@pytest.mark.parametrize("executor", ["torch", "native"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_cold_equals_warm(name: str, dtype: torch.dtype, executor: str, load: Load, tmp_path: Path) -> None:
    check(lambda: load(name, dtype, executor), tmp_path / "doc.gfc")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize("name", RECURRENT)
def test_cold_equals_warm_on_a_gpu(name: str, dtype: torch.dtype, load: Load, tmp_path: Path) -> None:
    check(lambda: load(name, dtype, "triton", "cuda"), tmp_path / "doc.gfc")


@pytest.mark.slow
def test_cold_equals_warm_in_the_interpreter_of_triton(load: Load, tmp_path: Path) -> None:
    """Few tokens: each takes the interpreter a second or more."""
    check(lambda: load("goldfinch_ratio2", torch.float32, "triton"), tmp_path / "doc.gfc", length=8, answer_tokens=2)
