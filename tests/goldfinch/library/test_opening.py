"""One way to open a session: the model that the cache asks for, other numerics remarked on or refused."""

from __future__ import annotations

from pathlib import Path

import gfcache
import pytest
import torch

import goldfinch
from goldfinch.errors import CacheMismatch, ModelNotFound
from goldfinch.library.opening import LazyModel, find_model_of, open_session, open_with_model
from tests.conftest import SAMPLES

TEXT = (SAMPLES / "four-freedoms-1941.txt").read_text()[:1500]


@pytest.fixture
def cache(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GF_MODELS_DIR", str(tiny_model.parent))
    model = goldfinch.load_model(tiny_model)
    ids, span = goldfinch.document_token_ids(model, TEXT)
    path = tmp_path / "doc.gfc"
    goldfinch.prefill(model, ids, document_range=span).save(path)
    return path


def test_a_session_on_a_file_answers_as_one_on_the_cache(cache: Path, tiny_model: Path) -> None:
    session = open_session(cache)
    model = goldfinch.load_model(tiny_model)
    other = goldfinch.Session(model, goldfinch.open_cache(cache, model))
    assert session.ask("Who?", max_tokens=8).token_ids == other.ask("Who?", max_tokens=8).token_ids
    assert session.last_usage.document_tokens_computed == 0


def test_other_numerics_are_remarked_on_or_refused(cache: Path) -> None:
    def load(place: str, dtype: str | None) -> goldfinch.LanguageModel:
        assert dtype == "f32"
        return goldfinch.load_model(place, dtype=torch.float64)

    remarks: list[str] = []
    with gfcache.read_cache(cache) as file:
        open_with_model(file, load, remark=remarks.append)
        assert ["compute_dtype f32" in remark for remark in remarks] == [True]
        with pytest.raises(CacheMismatch, match="compute_dtype"):
            open_with_model(file, load, strict=True)
    with pytest.warns(UserWarning, match="compute_dtype f32"):
        open_session(cache, load)


def test_a_file_is_opened_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = gfcache.read_cache
    monkeypatch.setattr(gfcache, "read_cache", lambda path: [opened.append(str(path)), real(path)][1])
    open_session(cache)
    assert opened == [str(cache)]


def test_a_model_that_is_not_here_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GF_MODELS_DIR", str(tmp_path / "none"))
    with gfcache.read_cache(cache) as file, pytest.raises(ModelNotFound):
        find_model_of(file.header)


def test_a_lazy_model_is_loaded_once(tiny_model: Path) -> None:
    loads: list[int] = []
    model = goldfinch.load_model(tiny_model)
    lazy = LazyModel(model.card, "cpu", "f32", lambda: [loads.append(1), model][1])
    assert not loads
    assert lazy() is lazy() is model
    assert len(loads) == 1
    assert (LazyModel.of(model).device, LazyModel.of(model).dtype) == ("cpu", "f32")
