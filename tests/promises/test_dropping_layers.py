"""Keys and values dropped of our attention layers, each head with rows of its own: warm = cold, replayed = made."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gfcache
import pytest
import torch
from gfcache import Coding, layout

from goldfinch import DocumentCache, LanguageModel, Session, load_model, open_cache
from goldfinch.caching.kept import dropped
from goldfinch.caching.row_parts import Form
from goldfinch.engine.base import Start
from goldfinch.engine.goldfinch import GoldFinchEngine
from goldfinch.engine.prefill import prefill_from
from goldfinch.engine.replay import replay_cache
from goldfinch.errors import GoldFinchError
from goldfinch.models.attention import watched
from goldfinch.models.config import RopeConfig
from goldfinch.models.memory import GoldMemory
from goldfinch.models.presets import presets
from goldfinch.models.state import GoldDocument
from goldfinch.policies.dropping.choosing import POLICIES
from goldfinch.policies.dropping.named import DROPPERS, EXPECTED, Dropping
from goldfinch.policies.dropping.watching import watched_scores
from tests.cache_format.craft import craft
from tests.goldfinch.policies.dropping.test_policies import queries_keys_values, reference_kept, reference_scores
from tests.goldfinch.states import assert_equal_caches, document

T, KEEP = 512, 0.2
QUESTION = [5, 9, 200, 31, 7]
H2O = Dropping("h2o", KEEP)
NAMES = ("llama_rope", "finchc2_gptalpha", "llama of four heads")


def loaded(name: str, imported: Callable[[str], Path]) -> LanguageModel:
    """That of a golden set, or a tiny one with random weights and four heads, in which attention counts."""
    kind, _, heads = name.partition(" of ")
    if not heads:
        return load_model(imported(name))
    torch.manual_seed(0)
    model = LanguageModel(replace(presets()[f"{kind}-tiny"], head_dim=16, rope=RopeConfig()))
    with torch.no_grad():
        for part, weight in model.named_parameters():
            if part.endswith(("output.weight", "wo.weight", "wq.weight", "wk.weight", "wv.weight")):
                weight.normal_(std=0.3)
    return model


def made(model: LanguageModel, form: Form = Form(dropping=H2O), seed: int = 0) -> DocumentCache:
    return prefill_from(Start(form=form), model, document(model, T, seed).to(model.device))


def logits(model: LanguageModel, cache: DocumentCache) -> torch.Tensor:
    return Session(model, cache).start(QUESTION)[0]


def sets(cache: DocumentCache) -> list[list[set[int]]]:
    """Of each attention layer the rows of each head."""
    kept = [layer.kept for layer in cache.state.layers if layer.kept is not None]
    return [[set(head.tolist()) for head in one.positions] for one in kept]


@pytest.mark.parametrize("name", [*NAMES, "gptalpha of four heads"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_rows_of_a_plain_reference(name: str, seed: int, imported: Callable[[str], Path]) -> None:
    """A set for each head, whole attention matrices."""
    model = loaded(name, imported)
    layers = queries_keys_values(model, document(model, T, seed))
    policies = ("h2o", "snapkv") if model.config.rope else ("h2o", "snapkv", "expected")
    for policy in policies:
        found = sets(made(model, Form(dropping=Dropping(policy, KEEP)), seed))
        assert len(found) == len(layers) == model.config.n_attention
        for heads, (q, k, v) in zip(found, layers, strict=True):
            scores = reference_scores(policy, q, k, v)
            assert len(heads) == len(scores)
            for rows, own in zip(heads, scores, strict=True):
                assert len(rows ^ reference_kept(policy, own.tolist(), int(KEEP * T))) <= 2  # equal up to rounding
    heads = [head for layer in sets(made(model)) for head in layer]
    assert len(heads) == model.config.n_attention * model.config.d_model // model.config.head_dim
    assert all(one != other for n, one in enumerate(heads) for other in heads[:n])


@pytest.mark.parametrize("name", NAMES)
def test_blocks_of_any_size_keep_the_same_rows(name: str, imported: Callable[[str], Path]) -> None:
    model = loaded(name, imported)
    ids = document(model, T)
    for policy in ("h2o", "snapkv"):
        chooses = POLICIES[policy]()
        kept = [chooses.kept(watched_scores(model, ids, chooses, block_tokens=n), T, 100) for n in (63, 128, T)]
        assert torch.equal(kept[0], kept[1])
        assert torch.equal(kept[0], kept[2])


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
    assert header.kept_rows == warm.row_count == warm.read_count == int(KEEP * T)
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
    check(lambda: loaded(name, imported), form, tmp_path / "doc.gfc")


@pytest.mark.gpu
@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.dropping}, {form.coding.rows}")
def test_cold_equals_warm_on_a_gpu(form: Form, imported: Callable[[str], Path], tmp_path: Path) -> None:
    model = imported("llama_rope")
    check(lambda: load_model(model, dtype=torch.bfloat16, device="cuda"), form, tmp_path / "doc.gfc")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_gone_is_not_seen_and_what_stays_stands_at_its_place(
    name: str, imported: Callable[[str], Path]
) -> None:
    """Rubbish in the rows that are gone changes nothing; the attention of each head is that over the rows it keeps."""
    model = loaded(name, imported)
    whole, small = made(model, Form()), made(model)
    layers = list(whole.state.layers)
    for n, (layer, kept) in enumerate(zip(layers, small.state.layers, strict=True)):
        if kept.kept is not None:
            rubbish = layer.keys.rows.clone()
            for head, positions in zip(
                rubbish[0].split(model.config.head_dim, dim=-1), kept.kept.positions, strict=True
            ):
                gone = torch.ones(T, dtype=torch.bool)
                gone[torch.from_numpy(positions)] = False
                head[gone] = 1e6
            layers[n] = replace(layer, keys=type(layer.keys).of(rubbish)).keeping(kept.kept)
    again = replace(small, state=replace(whole.state, layers=tuple(layers)))
    assert torch.equal(logits(model, again), logits(model, small))
    held = [layer for layer in Session(model, small).start(QUESTION)[1].layers if layer.kept is not None]
    assert {layer.attended_length for layer in held} == {T + len(QUESTION)}


@pytest.mark.parametrize("name", NAMES)
def test_attention_of_each_head_is_that_of_a_mask(name: str, imported: Callable[[str], Path]) -> None:
    """Over all rows with those that a head dropped masked out, in plain torch."""
    model = loaded(name, imported)
    whole, small = made(model, Form()), made(model)
    ids = torch.tensor([QUESTION])
    with watched(model) as full, torch.no_grad():
        model.run_prefill_layers(ids, whole.state)
    with watched(model) as few, torch.no_grad():
        model.run_prefill_layers(ids, small.state)
    pairs = [pair for pair in zip(whole.state.layers, small.state.layers, strict=True) if pair[1].kept is not None]
    # The first attention layer has the same input in both.
    (_, q, k), (core, _, _), (layer, kept) = full[0], few[0], pairs[0]
    v = core._heads(layer.values.rows)[0]
    mask = torch.ones(len(v), T, dtype=torch.bool).scatter_(1, torch.from_numpy(kept.kept.positions), False)
    scores = (q[0] @ k[0, :, :T].transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(mask[:, None], -torch.inf)
    few_k, few_v = few[0][2][0, :, : kept.kept.count], core._heads(kept.values.rows)[0]
    own = (few[0][1][0] @ few_k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1) @ few_v
    torch.testing.assert_close(own, scores.softmax(-1) @ v, rtol=1e-4, atol=1e-5)


def in_the_order_of_the_paper(model: LanguageModel, cache: DocumentCache) -> torch.Tensor:
    """Logits behind the question where rows that are left are numbered from 0, and the question from N."""
    state, keep = cache.state, int(KEEP * T)
    rows = torch.tensor([*range(4), *range(T - keep + 4, T)])
    if not model.config.n_gold:
        layers = [
            replace(layer, keys=type(layer.keys).of(layer.keys.rows[:, rows]), values=layer.values.of(layer.values.rows[:, rows]))
            if layer.keys.length else layer
            for layer in state.layers
        ]  # fmt: skip
        return Session(model, replace(cache, state=replace(state, layers=tuple(layers)))).start(QUESTION)[0]
    ids, c = cache.ids_on(model.device), cache.rows()
    assert isinstance(c, torch.Tensor)
    split = T - keep + 4
    before = ids[:, split - 1 : split], c[:, split - 1 : split]
    parts = [
        model.executor.rebuild(ids[:, :4], c[:, :4], None, 0),
        model.executor.rebuild(ids[:, split:], c[:, split:], before, 4),
    ]
    pairs = tuple(
        tuple(torch.cat(both, dim=1) for both in zip(*layer, strict=True)) for layer in zip(*parts, strict=True)
    )
    memory = GoldMemory(model.executor, GoldDocument(ids[:, rows], c[:, rows], pairs))
    session = Session(model, cache)
    return session.start(QUESTION, replace(state, memory=memory))[0]


@pytest.mark.parametrize("name", ["llama_rope", "gptalpha of four heads", "goldfinch of four heads"])
@pytest.mark.parametrize("memory_bytes", [0, 1 << 30])
def test_streaming_counts_slots(name: str, memory_bytes: int, imported: Callable[[str], Path], tmp_path: Path) -> None:
    """As the paper does, where keys are kept before they are turned; from a file, too."""
    model = loaded(name, imported)
    streaming = Form(dropping=Dropping("streaming", KEEP))
    small, whole = made(model, streaming), made(model, Form())
    found = Session(model, small, memory_bytes=memory_bytes).start(QUESTION)[0]
    torch.testing.assert_close(found, in_the_order_of_the_paper(model, whole), rtol=1e-4, atol=1e-4)
    small.save(tmp_path / "doc.gfc")
    cold = open_cache(tmp_path / "doc.gfc", model)
    assert torch.equal(Session(model, cold, memory_bytes=memory_bytes).start(QUESTION)[0], found)
    others = replace(small, numerics=replace(small.numerics, dropping="other 0.2"))
    layers = [
        layer if layer.kept is None else replace(layer, kept=replace(layer.kept, by_slot=False))
        for layer in others.state.layers
    ]
    at_their_places = replace(others, state=replace(others.state, layers=tuple(layers)))
    assert not torch.allclose(Session(model, at_their_places).start(QUESTION)[0], found, rtol=1e-3, atol=1e-3)


def test_rotations_at_positions_are_those_of_runs(imported: Callable[[str], Path]) -> None:
    model = load_model(imported("llama_rope"))
    rope = next(part.rope for part in model.modules() if hasattr(part, "rope") and part.rope is not None)
    x = torch.randn(1, 2, 7, model.config.head_dim)
    runs = torch.cat([rope(x[:, :, :3], 10), rope(x[:, :, 3:], 400)], dim=2)
    assert torch.equal(rope.at(x, torch.tensor([10, 11, 12, 400, 401, 402, 403])), runs)


def test_other_rows_and_blocks_are_told(imported: Callable[[str], Path], tmp_path: Path) -> None:
    model = loaded("llama of four heads", imported)
    small, whole = made(model), made(model, Form())
    liar = replace(dropped(model, whole, Dropping("random", KEEP)), numerics=small.numerics)
    assert "are not those that h2o 0.2 keeps" in str(replay_cache(model, liar).difference)
    with pytest.raises(GoldFinchError, match=r"rows of each head were dropped|no tokenizer"):
        Session(model, small, read="lexical")
    for cache in (small, made(model, Form(Coding("int8")))):
        with pytest.raises(GoldFinchError, match=r"dropped before|has rounded"):
            dropped(model, cache, H2O)
    assert small.positions == ()
    small.save(tmp_path / "doc.gfc")
    with gfcache.read_cache(tmp_path / "doc.gfc") as file:
        kept = file.array(file.header.of_kind(layout.KEPT_POSITIONS)[0])
    earlier = kept.copy()
    assert kept.shape == (model.config.n_attention, 4, int(KEEP * T))
    earlier[0, -1, -1] = earlier[0, -1, -2]
    craft(tmp_path / "doc.gfc", tmp_path / "bad.gfc", arrays={layout.KEPT_POSITIONS: earlier})
    with pytest.raises(gfcache.DamagedCache) as caught:
        gfcache.verify_cache(tmp_path / "bad.gfc")
    assert caught.value.rule == "R19"
