"""Rows that a question chooses, against whole attention matrices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from goldfinch import LanguageModel, load_model
from goldfinch.compare.asked_dropping import WITH_QUESTION, dropped_for, dropped_of_heads
from goldfinch.engine.base import Start
from goldfinch.engine.prefill import prefill
from goldfinch.policies.dropping.named import Dropping
from tests.goldfinch.foreign.dropping.test_rows import PlainLlama
from tests.goldfinch.foreign.running.tiny import random_ids, tiny_engine
from tests.goldfinch.policies.dropping.test_policies import matrix, queries_keys_values
from tests.goldfinch.states import document

T, ASKED, KEEP = 300, 20, 0.2


@pytest.fixture(scope="module")
def model(imported: Callable[[str], Path]) -> LanguageModel:
    return load_model(imported("goldfinch_ratio2"))


def expected(model: LanguageModel, ids: torch.Tensor, policy: str) -> set[int]:
    """By loops: of H2O half the last rows and those with most of the question's attention; of SnapKV what its window of
    32 has of the document, and what the window attends to, smoothed over five rows."""
    layers = [matrix(q, k) for q, k, _ in queries_keys_values(model, ids)]
    seen = ASKED if policy == "h2o" else 32
    sums = torch.stack([weights[:, -seen:].sum(1).sum(0) for weights in layers]).sum(0)
    scores, tail, count = sums[:T].tolist(), model.config.tail_length, int(KEEP * T)
    if policy == "snapkv":
        before = T + ASKED - 32
        padded = [0.0, 0.0, *sums[:before].tolist(), 0.0, 0.0]
        scores = [sum(padded[j : j + 5]) / 5 for j in range(before)] + scores[before:]
    chosen = set(range(T - (count // 2 if policy == "h2o" else 32 - ASKED), T))
    for j in sorted(range(T), key=lambda j: -scores[j]):
        if len(chosen) == count:
            break
        chosen.add(j)
    return chosen | set(range(T - tail, T))


@pytest.mark.parametrize("policy", WITH_QUESTION)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_rows_of_a_plain_reference(model: LanguageModel, policy: str, seed: int) -> None:
    ids = document(model, T + ASKED, seed)
    cache, question = prefill(model, ids[:, :T]), ids[0, T:].tolist()
    small = dropped_for(model, cache, Dropping(policy, KEEP), question)
    assert small.kept is not None
    found = {n for start, end in small.kept for n in range(start, end)}
    assert len(found ^ expected(model, ids, policy)) <= 2  # equal scores, up to rounding
    other = dropped_for(model, cache, Dropping(policy, KEEP), question[::-1])
    assert other.kept != small.kept
    assert cache.kept is None


@pytest.mark.parametrize("policy", WITH_QUESTION)
@pytest.mark.parametrize("seed", [1, 2])
def test_each_head_of_a_model_of_others_chooses_for_itself(policy: str, seed: int) -> None:
    engine, ids = tiny_engine("llama", context_length=1024), random_ids(T + ASKED, seed)
    cache, question = engine.prefill_from(Start(), ids[:T]), ids[T:].tolist()
    small = dropped_of_heads(engine.model, cache, Dropping(policy, KEEP), question)
    assert small.kept is not None
    seen, count = ASKED if policy == "h2o" else 32, int(KEEP * T)
    _, layers = PlainLlama(engine.model.network).attended(ids)
    for (weights, _), kept in zip(layers, small.kept, strict=True):
        for group, rows in enumerate(kept):
            sums = weights[2 * group : 2 * group + 2, -seen:].double().mean(0).sum(0)
            scores = sums[:T].tolist()
            if policy == "snapkv":
                before = T + ASKED - 32
                padded = [0.0, 0.0, *sums[:before].tolist(), 0.0, 0.0]
                scores = [sum(padded[j : j + 5]) / 5 for j in range(before)] + scores[before:]
            last = count // 2 if policy == "h2o" else 32 - ASKED
            order = sorted(range(T - last), key=lambda j: -scores[j])
            assert set(rows.tolist()) == set(order[: count - last]) | set(range(T - last, T))


@pytest.mark.parametrize("policy", WITH_QUESTION)
def test_each_head_of_a_llama_of_ours_chooses_for_itself(policy: str, imported: Callable[[str], Path]) -> None:
    llama = load_model(imported("llama_rope"))
    ids = document(llama, T + ASKED)
    small = dropped_for(llama, prefill(llama, ids[:, :T]), Dropping(policy, KEEP), ids[0, T:].tolist())
    seen, count = ASKED if policy == "h2o" else 32, int(KEEP * T)
    for layer, (q, k, _) in zip(small.state.layers, queries_keys_values(llama, ids), strict=True):
        assert layer.kept is not None
        for sums, kept in zip(matrix(q, k)[:, -seen:].sum(1), layer.kept.positions, strict=True):
            scores = sums[:T].tolist()
            if policy == "snapkv":
                before = T + ASKED - 32
                padded = [0.0, 0.0, *sums[:before].tolist(), 0.0, 0.0]
                scores = [sum(padded[j : j + 5]) / 5 for j in range(before)] + scores[before:]
            last = count // 2 if policy == "h2o" else 32 - ASKED
            order = sorted(range(T - last), key=lambda j: -scores[j])
            wanted = set(order[: count - last]) | set(range(T - last, T))
            assert len(set(kept.tolist()) ^ wanted) <= 2  # equal scores, up to rounding
