"""The basis of a model of others: what it is made of, that it is kept, and that caches coded in it are as others."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
import pytest
import torch
from gfcache import Coding, layout
from gfcache.codecs import registry
from gfcache.files.basis_files import FILE_NAME
from gfcache.format import bases

from goldfinch.caching.row_parts import Form
from goldfinch.caching.sizes import Rates
from goldfinch.engine.base import Start
from goldfinch.errors import ModelDamaged, ModelRefused
from goldfinch.foreign.basis import making
from goldfinch.foreign.basis.kept import basis_of
from goldfinch.foreign.running.engine import ForeignEngine
from goldfinch.policies.dropping.named import Dropping
from tests.goldfinch.foreign.running.tiny import random_ids, tiny_engine, tiny_model

T = 220


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with a basis: it is made once."""
    path = tmp_path_factory.mktemp("model")
    basis_of(replace(tiny_model("llama"), path=path))
    return path


def engine_in(folder: Path, **how: Any) -> ForeignEngine:
    return ForeignEngine(replace(tiny_engine("llama", **how).model, path=folder))


def made(engine: ForeignEngine, codec: str = "basis3", **form: Any) -> Any:
    return engine.prefill_from(Start(form=Form(Coding(codec), **form)), random_ids(T))


def equal(one: Any, other: Any) -> bool:
    pairs = zip(one.state.layers, other.state.layers, strict=True)
    return all(torch.equal(a.keys, b.keys) and torch.equal(a.values, b.values) for a, b in pairs)


@pytest.mark.parametrize("codec", ["basis4", "basis2"])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_cold_equals_warm(codec: str, dtype: str, folder: Path, tmp_path: Path) -> None:
    check(engine_in(folder, dtype=dtype), codec, tmp_path)


@pytest.mark.gpu
@pytest.mark.parametrize("codec", registry.BASED)
def test_cold_equals_warm_on_a_gpu(codec: str, folder: Path, tmp_path: Path) -> None:
    check(engine_in(folder, dtype="bf16", device="cuda"), codec, tmp_path)


def check(engine: ForeignEngine, codec: str, place: Path) -> None:
    warm, plain = made(engine, codec), made(engine, "raw")
    header = warm.save(place / "doc.gfc")
    digest = hashlib.sha256((engine.model.path / FILE_NAME).read_bytes()).hexdigest()
    assert Coding.of(header.numerics) == Coding(codec, basis=digest)
    assert Coding(codec).is_met_by(Coding.of(header.numerics))
    assert {(s.codec, s.basis) for kind in ("kv_keys", "kv_values") for s in header.of_kind(kind)} == {(codec, digest)}
    gfcache.verify_cache(place / "doc.gfc", complete=True)
    cold = engine.open(place / "doc.gfc")
    assert equal(warm, cold)
    assert not equal(warm, plain)
    assert (engine.replay(cold).exact, engine.replay(cold).difference) == (True, None)
    plain.save(place / "plain.gfc")
    gfcache.convert_cache(place / "plain.gfc", place / "small.gfc", engine.in_basis(Coding(codec)))
    assert equal(engine.open(place / "small.gfc"), warm)


def test_a_cache_is_read_where_the_basis_lies_beside_its_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_in(folder)
    warm = made(engine)
    warm.save(tmp_path / "doc.gfc")
    monkeypatch.setattr(bases, "_known", {})
    assert equal(engine_in(folder).open(tmp_path / "doc.gfc"), warm)
    monkeypatch.setattr(bases, "_known", {})
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(gfcache.BasisMissing, match=str(warm.numerics.rows_basis)[:16]):
        engine_in(tmp_path / "elsewhere").open(tmp_path / "doc.gfc")


def test_a_basis_is_made_once_and_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(model: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr("goldfinch.foreign.basis.kept.made_basis", never)
    model = replace(tiny_model("llama"), path=folder)
    assert basis_of(model).to_bytes() == (folder / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).write_bytes((folder / FILE_NAME).read_bytes()[:-1])
    with pytest.raises(ModelDamaged, match=FILE_NAME):
        basis_of(replace(model, path=tmp_path))
    monkeypatch.undo()
    again = making.made_basis(tiny_model("llama"))
    assert again.digest == basis_of(model).digest


def test_a_basis_that_can_be_kept_nowhere_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    basis = basis_of(replace(tiny_model("llama"), path=folder))
    monkeypatch.setattr("goldfinch.foreign.basis.kept.made_basis", lambda model: basis)
    monkeypatch.setattr("goldfinch.weights.noted.place_of", lambda fingerprint: None)
    with pytest.raises(ModelRefused, match="cannot be written"):
        basis_of(tiny_model("llama"))  # whose directory is none


@pytest.mark.parametrize(("name", "why"), [("mamba", "no layer of"), ("jamba", "token by token")])
def test_models_without_a_basis_say_why(name: str, why: str, tmp_path: Path) -> None:
    engine = ForeignEngine(replace(tiny_model(name), path=tmp_path))
    with pytest.raises(ModelRefused, match=why):
        made(engine)
    with pytest.raises(ModelRefused, match="no tokenizer"):
        making.made_basis(replace(tiny_model("llama"), tokenizer=None))


def test_dropped_rows_have_no_basis(folder: Path) -> None:
    with pytest.raises(ModelRefused, match="all rows"):
        made(engine_in(folder), dropping=Dropping("streaming", 0.5))


@pytest.mark.parametrize("name", ["gemma3_text", "falcon_h1", "qwen3"])
def test_other_architectures_have_one(name: str, tmp_path: Path) -> None:
    """Sliding windows and states beside full layers; keys that codecs cannot turn back."""
    engine = ForeignEngine(replace(tiny_model(name), path=tmp_path))
    warm = made(engine)
    warm.save(tmp_path / "doc.gfc")
    assert engine.replay(engine.open(tmp_path / "doc.gfc")).difference is None
    full = {n for n, layer in enumerate(engine.model.layers) if layer.kind == "full"}
    assert {n for n, _ in bases.read_basis(tmp_path / FILE_NAME).matrices} == full


def test_gradients_are_those_of_what_a_cache_holds() -> None:
    """Against a difference of two passes: the log probability of drawn tokens, one value of a key changed."""
    from goldfinch.foreign import library
    from goldfinch.foreign.running.states import Held, SequenceState, put_in

    model, ids = tiny_model("llama", dtype="f64"), torch.from_numpy(random_ids(40))
    held, draws = making._gradients(model, ids, 32, torch.Generator().manual_seed(0))
    gradient = next(iter(draws))[0, "keys"]
    chosen = torch.Generator().manual_seed(0)

    def log_p(step: float) -> torch.Tensor:
        rows = {key: one.detach().clone() for key, one in held.items()}
        rows[0, "keys"][0, 9, 3] += step
        layers = tuple(Held(rows[n, "keys"], rows[n, "values"]) for n in range(len(model.layers)))
        cache = put_in(lambda: library.new_cache(model.network), model.layers, SequenceState(32, layers), capacity=40)
        return library.forward(model.network, ids[32:], cache, 32).float().log_softmax(-1)

    tokens = torch.multinomial(log_p(0).exp(), 1, generator=chosen)
    one, other = (float(log_p(step).double().gather(1, tokens).sum()) for step in (1.0, -1.0))
    assert float(gradient[0, 9, 3]) == pytest.approx((one - other) / 2, rel=0.2, abs=1e-5)


def test_errors_are_made_where_they_cost_least() -> None:
    """Of two independent channels of one spread the one that predictions rest on gets the finer step."""
    rows = np.random.default_rng(0).standard_normal((4000, 1, 2))
    found = making._transforms(rows, np.array([[[100.0, 0.0], [0.0, 1.0]]]), 1e-9)[0]
    steps = np.linalg.norm(found, axis=1)  # of each channel
    assert steps[1] / steps[0] == pytest.approx(np.sqrt((1 + 0.1 * 50.5) / (100 + 0.1 * 50.5)) ** -1, rel=0.05)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_the_unit_does_not_rest_on_how_large_gradients_are(scale: float) -> None:
    """Gaussian values cost three bits each where a step is about half their spread."""
    columns = np.random.default_rng(0).standard_normal((2, 32, 500)) * scale
    assert making._unit([columns]) / scale == pytest.approx(0.55, rel=0.15)


def test_codes_cost_about_what_their_names_say(folder: Path) -> None:
    """On other tokens than those it was made from; what is planned is what is stored."""
    engine = engine_in(folder)
    bits, rates = {}, {}
    for codec in registry.BASED:
        cache = made(engine, codec)
        sections = [s for s in cache.packed() if s.kind in (layout.KV_KEYS, layout.KV_VALUES)]
        rates[codec] = Rates.of(sections, cache.numerics.coding, engine.identity["model"]).stored
        bits[codec] = 32 * float(np.mean([*rates[codec].values()]))
    assert sorted(bits, key=bits.__getitem__) == [*registry.BASED][::-1]
    assert bits["basis3"] == pytest.approx(3, abs=1)
