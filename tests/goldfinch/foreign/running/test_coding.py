"""Caches of models of others whose keys and values a codec has rounded: warm = cold, and what rests on them is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
import pytest
import torch
from gfcache import Coding, layout
from gfcache.codecs import registry

from goldfinch.caching.row_parts import Form
from goldfinch.engine.base import Start
from goldfinch.errors import ModelRefused
from goldfinch.foreign.running.engine import ForeignEngine
from goldfinch.measure.choosing import Bounds, ladder_of, measured
from goldfinch.measure.divergence import reproduced

from .test_engine import behind
from .tiny import random_ids, tiny_engine

# Of each kind one, and all on a GPU: tests of gfcache go through all of them.
NAMES = registry.serving(layout.KV_KEYS)
FEW = ("int8", "step3", "kivi2", "flexgen4")
T = 220


def made(engine: Any, codec: str, tokens: int = T, **start: Any) -> Any:
    form = start.pop("form", Form(Coding(codec)))
    return engine.prefill_from(Start(form=form, **start), random_ids(T)[:tokens])


def rows(cache: Any) -> list[torch.Tensor]:
    return [part for held in cache.state.layers for part in (held.keys, held.values) if part is not None]


def equal(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(rows(one), rows(other), strict=True))


@pytest.mark.parametrize("codec", FEW)
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_cold_equals_warm(codec: str, dtype: str, tmp_path: Path) -> None:
    check(codec, tmp_path / "doc.gfc", dtype=dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("codec", NAMES)
def test_cold_equals_warm_on_a_gpu(codec: str, tmp_path: Path) -> None:
    check(codec, tmp_path / "doc.gfc", dtype="bf16", device="cuda")


def check(codec: str, path: Path, **how: Any) -> None:
    engine = tiny_engine("llama", **how)
    warm, plain = made(engine, codec), made(engine, "raw")
    warm.save(path)
    with gfcache.read_cache(path) as file:
        assert Coding.of(file.header.numerics) == Coding(codec)
        found = {s.codec for kind in (layout.KV_KEYS, layout.KV_VALUES) for s in file.header.of_kind(kind)}
    assert found <= {codec, "raw"}
    assert codec in found or how["dtype"] == "bf16"  # where two bytes a value are no more than the codec's
    gfcache.verify_cache(path, complete=True)
    cold = engine.open(path)
    assert equal(warm, cold)
    assert (cold.row_parts, cold.numerics) == (warm.row_parts, warm.numerics) == (((0, codec),), warm.numerics)
    assert torch.equal(behind(engine, warm), behind(engine, cold))
    if how["dtype"] == "f32" or codec not in ("bf16", "f16"):  # something is lost, or nothing of this was tested
        assert not equal(warm, plain)
    report = engine.replay(cold)
    assert (report.exact, report.difference) == (True, None)
    # Of an archive made without codecs, the same file.
    plain.save(path.with_name("plain.gfc"))
    gfcache.convert_cache(path.with_name("plain.gfc"), path.with_name("small.gfc"), Coding(codec))
    assert equal(engine.open(path.with_name("small.gfc")), warm)


@pytest.mark.parametrize("name", ["gemma3_text", "falcon_h1"])
def test_only_keys_and_values_of_every_token_are_rounded(name: str, tmp_path: Path) -> None:
    engine = tiny_engine(name)
    warm, plain = made(engine, "step2"), made(engine, "raw")
    warm.save(tmp_path / "doc.gfc")
    assert equal(warm, engine.open(tmp_path / "doc.gfc"))
    for shape, held, before in zip(engine.model.layers, warm.state.layers, plain.state.layers, strict=True):
        if held.keys is not None and before.keys is not None:
            assert torch.equal(held.keys, before.keys) == (shape.kind != "full")
        assert all(torch.equal(held.states[role], state) for role, state in before.states.items())
    assert engine.replay(warm).difference is None


def test_nothing_goes_on_from_rounded_keys_and_values(tmp_path: Path) -> None:
    engine = tiny_engine("llama")
    ids, cold = random_ids(T), made(engine, "step3")
    made(engine, "step3", T - 40).save(tmp_path / "part.gfc")
    part = engine.open(tmp_path / "part.gfc")
    assert engine.reusable_tokens(part, ids) == 0
    assert equal(made(engine, "step3", base=part), cold)
    with pytest.raises(ModelRefused, match="rest on rounded keys and values"):
        made(engine, "step3", form=Form(Coding("step3"), part, 160), base=part)
    shorter = made(engine, "step3", T - 40, base=engine.open(tmp_path / "part.gfc"))
    assert equal(shorter, part)


def test_a_child_rounds_its_own_part_alone(tmp_path: Path) -> None:
    engine = tiny_engine("llama")
    made(engine, "raw", 160).save(tmp_path / "base.gfc")
    base = engine.open(tmp_path / "base.gfc")
    child = made(engine, "step3", form=Form(Coding("step3"), base, 160), base=base)
    child.save(tmp_path / "child.gfc", parent=(base, 160))
    read = engine.open(tmp_path / "child.gfc")
    assert equal(child, read)
    assert read.row_parts == child.row_parts == ((0, "raw"), (160, "step3"))
    assert all(torch.equal(a[:, :160], b) for a, b in zip(rows(read), rows(base), strict=True))
    assert engine.replay(read).difference is None
    gfcache.flatten_cache(tmp_path / "child.gfc", tmp_path / "flat.gfc")
    flat = engine.open(tmp_path / "flat.gfc")
    assert equal(flat, read)
    assert engine.replay(flat).difference is None
    read.save(tmp_path / "whole.gfc")
    assert engine.open(tmp_path / "whole.gfc").row_parts == read.row_parts


def test_a_killed_run_leaves_a_journal_that_is_not_rounded(tmp_path: Path) -> None:
    from goldfinch.caching.journal import Journal

    engine, journal = tiny_engine("llama"), Journal(tmp_path / "doc.gfc", 0.0)
    begun = []
    journal.noted = begun.append
    made(engine, "step3", journal=journal)
    assert begun
    left = engine.open(journal.path)
    assert left.row_parts == ()
    assert engine.reusable_tokens(left, random_ids(T)) == left.length
    assert equal(made(engine, "step3", base=left), made(engine, "step3"))


@pytest.mark.parametrize(
    ("name", "coding", "layout_", "why"),
    [
        ("llama", Coding("step3", "int8"), "whole", "states are kept as they are"),
        ("mamba", Coding("step3"), "whole", "no layer of"),
        ("llama", Coding("step3"), "blocks", "in blocks"),
    ],
)
def test_what_cannot_be_rounded_is_refused_before_anything_is_computed(
    name: str, coding: Coding, layout_: str, why: str
) -> None:
    engine = tiny_engine(name, layout=layout_)
    called = []
    with pytest.raises(ModelRefused, match=why):
        engine.prefill_from(Start(form=Form(coding)), random_ids(T), progress=lambda *_: called.append(1))
    assert not called


def test_convert_refuses_with_the_reason(tmp_path: Path) -> None:
    made(tiny_engine("llama"), "step3").save(tmp_path / "doc.gfc")
    made(tiny_engine("mamba"), "raw").save(tmp_path / "mamba.gfc")
    for path, coding, why in (
        ("doc.gfc", Coding("step2"), "rounded by step3"),
        ("doc.gfc", Coding("step3", "int8"), "states are kept"),
        ("mamba.gfc", Coding("step3"), "no layer of"),
    ):
        with pytest.raises(gfcache.CannotRound, match=why):
            gfcache.convert_cache(tmp_path / path, tmp_path / "out.gfc", coding)


def test_an_altered_value_is_found_by_replay() -> None:
    engine, at = tiny_engine("llama"), (0, 99, 3)
    cache = made(engine, "step3")
    keys = cache.state.layers[0].keys.clone()
    keys[at] += 2 * keys.abs().max()
    layers = (replace(cache.state.layers[0], keys=keys), *cache.state.layers[1:])
    altered = replace(cache, state=replace(cache.state, layers=layers))
    assert "keys of layer 0" in str(engine.replay(altered).difference)


def test_keys_are_turned_back_before_they_are_rounded() -> None:
    """What a channel of a key has in common over all tokens is seen behind its rotary position alone."""
    engine = tiny_engine("llama")
    rotary = engine.identity["model"]["rotary"]
    pairs = engine.model.layers[0].head_dim // 2
    assert len(rotary) == pairs
    assert np.allclose(rotary, 10000.0 ** -(np.arange(pairs) / pairs))
    for name in ("mamba", "gemma3_text"):  # nothing is rotated, or layers differ
        assert "rotary" not in tiny_engine(name).identity["model"]


def test_what_codecs_cost_is_measured_kept_and_measured_again(tmp_path: Path) -> None:
    engine = tiny_engine("llama", dtype="f32")
    computed = made(engine, "raw", tokens=150)
    receipts = [measured(engine, computed, Form(Coding(name)), Bounds(), lambda _: 0) for name in ("raw", *FEW[:3])]
    costs = [found.receipt.mean_kl for found in receipts]
    assert costs[0] == 0 < costs[1] < costs[2] < costs[3]
    rounded = receipts[2]
    rounded.save(tmp_path / "doc.gfc")
    opened = engine.open(tmp_path / "doc.gfc")
    assert opened.receipt == rounded.receipt == reproduced(engine, opened)
    assert rounded.receipt.document.positions == 256
    # As the session predicts: behind the first token of the first passage.
    at = rounded.receipt.starts[0]
    first = computed.token_ids[at : at + 1].tolist()
    one, other = (engine.session(cache, read="all").behind(first, [])[0] for cache in (computed, rounded))
    assert torch.equal(one, engine.session(computed, read="all").start(first)[0])
    assert not torch.equal(one, other)


def test_bounds_choose_among_codecs_of_keys_and_values(tmp_path: Path) -> None:
    engine = ForeignEngine(replace(tiny_engine("llama", dtype="f32").model, path=tmp_path))
    computed = made(engine, "raw", tokens=150)
    steps = ladder_of(computed.identity["model"], based=False)
    ladder = ladder_of(computed.identity["model"], based=True)
    assert [coding.rows for coding in ladder][:3] == ["raw", "int8", "basis4"]
    assert [coding.rows.replace("basis", "step") for coding in ladder] == [coding.rows for coding in steps]
    assert {coding.state for coding in ladder} == {"raw"}

    def size(cache: Any) -> int:
        return cache.file_bytes(tmp_path / "x.gfc")

    least = measured(engine, computed, Form(Coding()), Bounds(max_kl=100.0), size).numerics.coding
    assert ladder[-1].is_met_by(least)
    assert least.basis is not None
    assert measured(engine, computed, Form(Coding()), Bounds(max_kl=0.0), size).numerics.coding == ladder[0]
    chosen = measured(
        engine, computed, Form(Coding()), Bounds(max_bytes=size(made(engine, "int8", tokens=150)) + 8192), size
    )
    chosen.save(tmp_path / "x.gfc")
    assert chosen.numerics.coding.rows != "raw"
    assert (tmp_path / "x.gfc").stat().st_size == size(chosen)


def test_where_no_codec_costs_anything_nothing_is_measured() -> None:
    engine = tiny_engine("mamba", dtype="f32")
    with pytest.raises(ModelRefused, match="no layer of"):
        measured(engine, made(engine, "raw", tokens=20), Form(Coding()), Bounds(), lambda _: 0)
