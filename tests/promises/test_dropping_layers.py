"""Keys and values dropped of our attention layers, each with rows of its own: warm = cold, replayed = made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gfcache
import numpy as np
import pytest
import torch
from gfcache import Coding, layout

from goldfinch import DocumentCache, LanguageModel, Session, load_model, open_cache
from goldfinch.caching.kept import dropped
from goldfinch.caching.row_parts import Form
from goldfinch.caching.sections import positions_in
from goldfinch.engine.base import Start
from goldfinch.engine.goldfinch import GoldFinchEngine
from goldfinch.engine.prefill import prefill_from
from goldfinch.engine.replay import replay_cache
from goldfinch.errors import GoldFinchError
from goldfinch.policies.dropping.named import DROPPERS, EXPECTED, Dropping
from tests.cache_format.craft import craft
from tests.goldfinch.policies.dropping.test_policies import queries_keys_values, reference_kept, reference_scores
from tests.goldfinch.states import assert_equal_caches, document

T, KEEP = 512, 0.2
QUESTION = [5, 9, 200, 31, 7]
H2O = Dropping("h2o", KEEP)
NAMES = ("llama_rope", "finchc2_gptalpha")


def made(model: LanguageModel, form: Form = Form(dropping=H2O), seed: int = 0) -> DocumentCache:
    return prefill_from(Start(form=form), model, document(model, T, seed).to(model.device))


def logits(model: LanguageModel, cache: DocumentCache) -> torch.Tensor:
    return Session(model, cache).start(QUESTION)[0]


def sets(cache: DocumentCache) -> list[set[int]]:
    return [set(positions_in(layer.rows).tolist()) for layer in cache.state.layers if layer.rows is not None]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_rows_of_a_plain_reference(name: str, seed: int, imported: Callable[[str], Path]) -> None:
    """The scores of the heads of a layer added, whole attention matrices."""
    model = load_model(imported(name))
    layers = queries_keys_values(model, document(model, T, seed))
    policies = ("h2o", "snapkv") if model.config.rope else ("h2o", "snapkv", "expected")
    for policy in policies:
        found = sets(made(model, Form(dropping=Dropping(policy, KEEP)), seed))
        assert len(found) == len(layers) == model.config.n_attention
        for rows, (q, k, v) in zip(found, layers, strict=True):
            scores = reference_scores(policy, q, k, v).sum(0)
            scores[-1] = torch.inf
            assert len(rows ^ reference_kept(policy, scores.tolist(), int(KEEP * T))) <= 2  # equal up to rounding
    if model.config.n_attention > 1:
        assert sets(made(model))[0] != sets(made(model))[1]


FORMS = [Form(dropping=Dropping(policy, KEEP)) for policy in DROPPERS] + [Form(Coding("step3", "int8"), dropping=H2O)]


def check(load: Callable[[], LanguageModel], form: Form, path: Path) -> None:
    model = load()
    assert form.dropping is not None
    if GoldFinchEngine(model).obstacle_to_dropping(form.dropping.policy) is not None:
        assert (form.dropping.policy, model.config.rope is None) == (EXPECTED, False)
        return
    warm, plain = made(model, form), made(model, Form(form.coding))
    header = warm.save(path)
    plain.save(path.with_name("plain.gfc"))
    gfcache.verify_cache(path, complete=True)
    count = int(KEEP * T) + (form.dropping.policy == "random" and T - 1 not in sets(warm)[0])
    assert header.kept_rows == warm.row_count == warm.read_count
    assert abs(warm.row_count - count) <= 1
    cold_model = load()
    cold = open_cache(path, cold_model)
    assert_equal_caches(warm, cold)
    assert sets(cold) == sets(warm)
    assert cold.numerics == warm.numerics
    assert torch.equal(logits(model, warm), logits(cold_model, cold))
    assert not torch.equal(logits(model, warm), logits(model, plain))
    assert path.stat().st_size < path.with_name("plain.gfc").stat().st_size
    report = replay_cache(cold_model, cold)
    assert (report.difference, report.exact) == (None, True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.dropping}, {form.coding.rows}")
def test_cold_equals_warm(name: str, form: Form, imported: Callable[[str], Path], tmp_path: Path) -> None:
    check(lambda: load_model(imported(name)), form, tmp_path / "doc.gfc")


@pytest.mark.gpu
@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.dropping}, {form.coding.rows}")
def test_cold_equals_warm_on_a_gpu(form: Form, imported: Callable[[str], Path], tmp_path: Path) -> None:
    model = imported("llama_rope")
    check(lambda: load_model(model, dtype=torch.bfloat16, device="cuda"), form, tmp_path / "doc.gfc")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_gone_is_not_seen_and_what_stays_stands_at_its_place(
    name: str, imported: Callable[[str], Path]
) -> None:
    """Rubbish in the rows that are gone changes nothing; the attention of each layer is that over the rows it keeps."""
    model = load_model(imported(name))
    whole, small = made(model, Form()), made(model)
    layers = list(whole.state.layers)
    for n, (layer, kept) in enumerate(zip(layers, small.state.layers, strict=True)):
        if kept.rows is not None:
            gone = torch.ones(T, dtype=torch.bool)
            gone[torch.from_numpy(positions_in(kept.rows))] = False
            rubbish = layer.keys.rows.clone()
            rubbish[:, gone] = 1e6
            layers[n] = replace(layer, keys=type(layer.keys).of(rubbish)).holding(kept.rows)
    again = replace(small, state=replace(whole.state, layers=tuple(layers)))
    assert torch.equal(logits(model, again), logits(model, small))
    held = [layer for layer in Session(model, small).start(QUESTION)[1].layers if layer.rows is not None]
    assert {layer.attended_length for layer in held} == {T + len(QUESTION)}


def test_rotations_at_positions_are_those_of_runs(imported: Callable[[str], Path]) -> None:
    model = load_model(imported("llama_rope"))
    rope = next(part.rope for part in model.modules() if hasattr(part, "rope") and part.rope is not None)
    x = torch.randn(1, 2, 7, model.config.head_dim)
    runs = torch.cat([rope(x[:, :, :3], 10), rope(x[:, :, 3:], 400)], dim=2)
    assert torch.equal(rope.at(x, torch.tensor([10, 11, 12, 400, 401, 402, 403])), runs)


def test_other_rows_and_blocks_are_told(imported: Callable[[str], Path], tmp_path: Path) -> None:
    model = load_model(imported("llama_rope"))
    small, whole = made(model), made(model, Form())
    liar = replace(dropped(model, whole, Dropping("random", KEEP)), numerics=small.numerics)
    assert "are not those that h2o 0.2 keeps" in str(replay_cache(model, liar).difference)
    with pytest.raises(GoldFinchError, match=r"rows of each layer were dropped|no tokenizer"):
        Session(model, small, read="lexical")
    for cache in (small, made(model, Form(Coding("int8")))):
        with pytest.raises(GoldFinchError, match=r"dropped before|has rounded"):
            dropped(model, cache, H2O)
    assert small.positions == ()
    small.save(tmp_path / "doc.gfc")
    with gfcache.read_cache(tmp_path / "doc.gfc") as file:
        kept = file.array(file.header.of_kind(layout.KEPT_POSITIONS)[0])
    earlier = kept.copy()
    earlier[0, 0] -= np.arange(kept.shape[2], dtype=np.uint32) == kept.shape[2] - 1
    earlier[0, 0, -2] -= 1
    craft(tmp_path / "doc.gfc", tmp_path / "bad.gfc", arrays={layout.KEPT_POSITIONS: np.maximum(earlier, 0)})
    with pytest.raises(gfcache.DamagedCache) as caught:
        gfcache.verify_cache(tmp_path / "bad.gfc")
    assert caught.value.rule == "R19"
