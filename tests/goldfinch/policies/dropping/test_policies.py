"""Dropping policies against plain references: whole attention matrices of tiny models, and loops over lists."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from goldfinch import LanguageModel, load_model
from goldfinch.models.attention import watched
from goldfinch.models.memory import GoldMemory
from goldfinch.policies.dropping.base import attention_weights
from goldfinch.policies.dropping.choosing import POLICIES, Chooser, runs_of
from goldfinch.policies.dropping.named import COSTS, DROPPERS, Dropping
from goldfinch.policies.dropping.watching import watched_scores
from tests.goldfinch.states import document

T, COUNT = 512, 103
SEEING = [name for name in DROPPERS if POLICIES[name]().queries(T)]


def queries_keys_values(model: LanguageModel, ids: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Per attention layer q, k, v (H, T, D) of a document that runs through the model in one piece."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    D = model.config.head_dim

    def heads(rows: Tensor) -> Tensor:
        return rows[0].view(ids.shape[1], -1, D).transpose(0, 1)

    if not model.config.n_gold:
        with watched(model) as seen, torch.no_grad():
            _, state = model.run_prefill_layers(ids, model.empty_state())
        values = [layer.values.rows for layer in state.layers if layer.keys.length]
        return [(q[0], k[0], heads(v)) for (_, q, k), v in zip(seen, values, strict=True)]

    class Recorder:
        def __init__(self, memory: GoldMemory) -> None:
            self.memory, self.length = memory, memory.length

        def attend(self, index: int, q: Tensor) -> Tensor:
            k, v = self.memory.expanded[index]
            found.append((q[0], heads(k.rows), heads(v.rows)))
            return self.memory.attend(index, q)

    with torch.no_grad():
        x, state = model.run_prefill_layers(ids, model.empty_state())
        state = model.remember(state, ids, model.compress_keys(x))
        assert isinstance(state.memory, GoldMemory)
        model.run_gold_layers(x, replace(state, memory=Recorder(state.memory)))
    return found


def matrix(q: Tensor, k: Tensor) -> Tensor:
    """Attention (H, T, T), of keys with as many heads as the queries."""
    scores = q.double() @ k.double().transpose(-1, -2) / math.sqrt(q.shape[-1])
    later = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(-1)


def reference_scores(name: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What a policy makes of one layer with as many key-value heads as query heads, (H, T)."""
    if name == "h2o":
        return matrix(q, k).sum(1)
    if name == "snapkv":
        sums = matrix(q, k)[:, -32:].sum(1)
        smooth = sums.clone()
        for j in range(T - 32):  # the edges count as zeros
            smooth[:, j] = sums[:, max(j - 2, 0) : min(j + 3, T - 32)].sum(1) / 5
        return smooth
    mean, q = q[:, 4:].double().mean(1), q[:, 4:].double()
    found = []
    for head in range(q.shape[0]):
        centred = q[head] - mean[head]
        covariance = centred.T @ centred / len(centred)
        keys = k[head].double()
        log = keys @ mean[head] / math.sqrt(k.shape[-1]) + ((keys @ covariance) * keys).sum(-1) / (2 * k.shape[-1])
        found.append(F.softmax(log, dim=-1) * v[head].double().norm(dim=-1))
    return torch.stack(found)


def reference_kept(name: str, scores: list[float], count: int) -> set[int]:
    """Which of T rows stay, by a loop over a list."""
    last = {"h2o": count // 2, "snapkv": 32, "expected": 0}[name]
    chosen = set(range(T - last, T)) | (set(range(4)) if name == "expected" else set())
    for j in sorted(range(T), key=lambda j: -scores[j]):
        if len(chosen) == count:
            break
        chosen.add(j)
    return chosen


def rows(mask: Tensor) -> set[int]:
    return set(mask.nonzero()[:, 0].tolist())


@pytest.fixture(params=["goldfinch_ratio2", "llama_rope"])
def model(request: pytest.FixtureRequest, imported: Callable[[str], Path]) -> LanguageModel:
    return load_model(imported(request.param))


@pytest.mark.parametrize("name", SEEING)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_rows_as_a_plain_reference(model: LanguageModel, name: str, seed: int) -> None:
    if name == "expected" and not model.config.n_gold:
        pytest.skip("for keys that do not turn")
    ids, policy = document(model, T, seed), POLICIES[name]()
    scores = watched_scores(model, ids, policy)
    layers = queries_keys_values(model, ids)
    assert scores.shape[0] == len(layers)
    for found, (q, k, v) in zip(scores, layers, strict=True):
        expected = reference_scores(name, q, k, v)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
        for head in range(len(found)):  # one set for each head
            wanted = reference_kept(name, found[head].tolist(), COUNT)
            assert rows(policy.kept(found[head], T, COUNT)) == wanted
            apart = wanted ^ reference_kept(name, expected[head].tolist(), COUNT)
            least = expected[head].sort().values
            for j in apart:  # no row that rounding does not explain
                assert float((least - expected[head, j]).abs().sort().values[1]) < 1e-6


@pytest.mark.parametrize("name", SEEING)
def test_blocks_of_any_size_choose_the_same_rows(model: LanguageModel, name: str) -> None:
    ids, policy = document(model, T), POLICIES[name]()
    kept = [policy.kept(watched_scores(model, ids, policy, block_tokens=n).sum((0, 1)), T, COUNT) for n in (63, 128, T)]
    assert torch.equal(kept[0], kept[1])
    assert torch.equal(kept[0], kept[2])


@pytest.mark.parametrize("name", SEEING)
def test_grouped_heads_share_a_set(name: str) -> None:
    """Four query heads to two key-value heads: the scores are means over each group."""
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(heads, T, 8, generator=draw) for heads in (4, 2, 2))
    policy = POLICIES[name]()
    observer, wanted = policy.observer(T), T - policy.queries(T)
    for start in range(wanted, T, 100):
        end = min(start + 100, T)
        observer.see(q[:, start:end], k[:, :end], start)
    scores = observer.scores(k, v)
    assert scores.shape == (2, T)
    alone = reference_scores(name, q, *(x.repeat_interleave(2, dim=0) for x in (k, v)))
    torch.testing.assert_close(scores, alone.view(2, 2, T).mean(1), rtol=1e-4, atol=1e-9)
    kept = policy.kept(scores, T, COUNT)
    assert kept.sum(-1).tolist() == [COUNT, COUNT]
    assert not torch.equal(kept[0], kept[1])


def test_streaming_keeps_sinks_and_a_window() -> None:
    kept = POLICIES["streaming"]().kept(None, T, COUNT)
    assert rows(kept) == {0, 1, 2, 3} | set(range(T - COUNT + 4, T))
    assert rows(POLICIES["streaming"]().kept(None, T, 1)) == {T - 1}


def test_random_rows_are_those_of_the_length() -> None:
    one, other = POLICIES["random"]().kept(None, T, COUNT), POLICIES["random"]().kept(None, T, COUNT)
    assert torch.equal(one, other)
    assert len(rows(one)) == COUNT
    assert len(runs_of(one)) > 60


def test_queries_by_few_at_a_time_make_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 40, 8, generator=draw), torch.randn(2, 100, 8, generator=draw)
    whole = torch.cat(list(attention_weights(q, k, 60)), dim=2)
    monkeypatch.setattr("goldfinch.policies.dropping.base.MOST_WEIGHTS", 1500)
    pieces = list(attention_weights(q, k, 60))
    assert len(pieces) == 6
    torch.testing.assert_close(torch.cat(pieces, dim=2), whole)
    torch.testing.assert_close(whole[:, 0], matrix(F.pad(q, (0, 0, 60, 0)), k)[:, 60:].float())


@pytest.mark.parametrize("name", DROPPERS)
def test_what_a_file_keeps(name: str, imported: Callable[[str], Path]) -> None:
    """So many rows of a GoldFinch document, for all heads of all layers; its last ones always."""
    model = load_model(imported("goldfinch_ratio2"))
    tail = model.config.tail_length
    chooser = Chooser(model, document(model, T), name)
    for keep in (0.05, 0.2, 0.7):
        runs = chooser.kept(keep)
        assert runs[-1][1] == T
        assert runs[-1][0] <= T - tail
        assert 0 <= sum(end - start for start, end in runs) - int(keep * T) <= tail
    assert chooser.kept(0.001)[-1] == (T - tail, T)


def test_what_each_costs_is_said() -> None:
    assert set(COSTS) == set(DROPPERS) == set(POLICIES)
    for name in DROPPERS:
        assert (COSTS[name] == "nothing") == (POLICIES[name]().queries(T) == 0)


def test_how_a_cache_notes_it() -> None:
    assert str(Dropping("h2o", 0.2)) == "h2o 0.2"
    assert Dropping.of("h2o 0.2") == Dropping("h2o", 0.2)
    assert [Dropping.of(noted) for noted in (None, "", "h2o", "h2o x", "h2o 0", "h2o 1", "newer 0.5")] == [None] * 7
    assert Dropping("h2o", 0.29).count(100, 3) == 29
    assert Dropping("h2o", 0.01).count(100, 3) == 3
