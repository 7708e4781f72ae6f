"""The policy "attention" against a plain reference over the whole attention matrix, and what must not change it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import goldfinch
from goldfinch.models import torch_executor
from goldfinch.models.config import RopeConfig
from goldfinch.models.layers import split_heads
from goldfinch.models.state import GoldDocument
from goldfinch.policies import attention
from goldfinch.policies.attention import BLOCK, REPRESENTATIVES, AttentionFinder, GoldScores, block_scores
from goldfinch.text.prompt import document_token_ids, question_token_ids
from tests.tolerances import PATHS_FP32

WORDS = ["the", "sea", "road", "town", "people", "trade", "market", "stone", "river", "bread", "window", "garden"]
TEXT = "\n".join(" ".join(WORDS[(7 * n + 5 * k + n // 9) % 12] for k in range(11)) + f" {n}." for n in range(120))
QUESTIONS = ["What is in the garden?", "Which road leads to the sea?", "Trade 77?"]


class Whole:
    """A memory with all keys and values and one attention matrix, in which what is not near is hidden."""

    def __init__(self, keys: list[Tensor], values: list[Tensor], near: Tensor) -> None:
        self.keys, self.values, self.near = keys, values, near
        self.last_queries: list[Tensor] = []

    @property
    def length(self) -> int:
        return self.keys[0].shape[1]

    def attend(self, index: int, q: Tensor) -> Tensor:
        D, n = q.shape[-1], q.shape[2]
        k, v = (split_heads(x, D).transpose(1, 2) for x in (self.keys[index], self.values[index]))
        scores = q @ k.transpose(-1, -2) / D**0.5  # (1, H, n, all)
        later = torch.arange(self.length)[None] > torch.arange(self.length - n, self.length)[:, None]
        scores = scores.masked_fill(later | ~self.near, -torch.inf)
        self.last_queries.append(q[0, :, -1])
        return scores.softmax(-1) @ v


@torch.no_grad()
def expected_scores(model: goldfinch.LanguageModel, cache: goldfinch.DocumentCache, question: str) -> list[float]:
    """The scores of the blocks, found token by token with nothing but the model's layers."""
    ids = torch.tensor([question_token_ids(model, question)])
    x, _ = model.run_prefill_layers(ids, cache.state)
    all_ids = torch.cat([cache.ids_on(model.device), ids], 1)
    compressed = torch.cat([cache.compressed_k, model.compress_keys(x)], 1)
    pairs = torch_executor.TorchExecutor(model).rebuild(all_ids, compressed, None, 0)
    near = torch.ones(all_ids.shape[1], dtype=torch.bool)
    near[1 : cache.length - model.config.tail_length] = False
    memory = Whole([k for k, _ in pairs], [v for _, v in pairs], near)
    model.run_gold_layers(torch.cat([cache.tail_hidden, x], 1), replace(cache.state, memory=memory))
    start, end = cache.document_range
    scores = []
    for first in range(start, end, BLOCK):
        score = 0.0
        for q, (k, _) in zip(memory.last_queries, pairs, strict=True):
            keys = split_heads(k, q.shape[-1])[0, first : min(first + BLOCK, end)]  # (n, H, D)
            tokens = sorted(((keys * q).sum((1, 2)) / q.shape[-1] ** 0.5).tolist())[-REPRESENTATIVES:]
            score += sum(tokens) / len(tokens)
        scores.append(score)
    return scores


@pytest.fixture(scope="module", params=[None, RopeConfig()], ids=["plain", "rotated"])
def model(request: pytest.FixtureRequest, tiny_model: Path) -> goldfinch.LanguageModel:
    model = goldfinch.load_model(tiny_model)
    if request.param is None:
        return model
    other = goldfinch.LanguageModel(goldfinch.ModelConfig(**{**model.config.to_dict(), "rope": request.param}))
    other.load_state_dict(model.state_dict())
    other.tokenizer = model.tokenizer
    return other


@pytest.fixture(scope="module")
def cache(model: goldfinch.LanguageModel) -> goldfinch.DocumentCache:
    ids, span = document_token_ids(model, TEXT)
    return goldfinch.prefill(model, ids, document_range=span)


def finder(model: goldfinch.LanguageModel, cache: goldfinch.DocumentCache) -> AttentionFinder:
    document = GoldDocument(cache.ids_on(model.device), cache.compressed_k)
    scores = GoldScores(model, document, cache.state, cache.tail_hidden)
    return AttentionFinder(model, scores, cache.own_token_ids, cache.document_range)


@pytest.mark.parametrize("question", QUESTIONS)
def test_it_chooses_the_blocks_of_the_whole_matrix(question: str, model, cache) -> None:
    expected = expected_scores(model, cache, question)
    assert len(expected) > 8
    order = sorted(range(len(expected)), key=lambda n: -expected[n])
    found = finder(model, cache).best(question, len(expected))
    assert sorted(f.block for f in found) == sorted(order) != order
    assert [f.score for f in found] == pytest.approx([expected[f.block] for f in found], rel=PATHS_FP32)
    # The best first; which of two that are equal but for rounding comes before is open.
    assert [f.score for f in found] == pytest.approx([expected[n] for n in order], rel=PATHS_FP32)


def test_the_question_counts(model, cache) -> None:
    first, second = (finder(model, cache).scores(question_token_ids(model, q)) for q in QUESTIONS[:2])
    assert abs(first - second).max() > 100 * PATHS_FP32 * abs(first).max()


def test_the_size_of_what_is_rebuilt_at_a_time_does_not_count(model, cache, monkeypatch) -> None:
    ids = question_token_ids(model, QUESTIONS[0])
    whole = finder(model, cache).token_scores(ids)
    monkeypatch.setattr(torch_executor, "REBUILD_BLOCK", 100)
    monkeypatch.setattr(attention, "QUESTION_BLOCK", 3)
    parts = finder(model, cache).token_scores(ids)
    assert float((parts - whole).abs().max()) <= PATHS_FP32 * float(whole.abs().max())
    order = [f.block for f in finder(model, cache).best(QUESTIONS[0], 4)]
    monkeypatch.undo()
    assert order == [f.block for f in finder(model, cache).best(QUESTIONS[0], 4)]


def test_blocks_are_named_by_their_lines(model, cache) -> None:
    start, _ = cache.document_range
    lines = TEXT.split("\n")
    for found in finder(model, cache).best(QUESTIONS[1], 3):
        (first, last) = found.rows[0]
        text = model.tokenizer.decode(cache.token_ids[start + first : start + last].tolist())
        inner = text.split("\n")[1:-1]  # whole lines
        assert inner == lines[found.first_line : found.first_line + len(inner)]


def test_scores_are_means_of_the_best_tokens() -> None:
    tokens = torch.zeros(2, BLOCK + 2)
    tokens[0, 3], tokens[1, 7], tokens[1, BLOCK:] = 4.0, 8.0, 5.0
    assert block_scores(tokens).tolist() == [1.0 + 2.0, 5.0]


def test_a_file_is_searched_as_the_cache_it_was_made_of(model, cache, tmp_path: Path) -> None:
    if model.card is None:
        pytest.skip("a model without a card has no files")
    cache.save(tmp_path / "doc.gfc")
    cold = goldfinch.Session(model, goldfinch.open_cache(tmp_path / "doc.gfc", model), read="attention")
    warm = goldfinch.Session(model, cache, read="attention")
    for question in QUESTIONS:
        assert cold.reader.read(question) == warm.reader.read(question)


@pytest.mark.gpu
def test_a_gpu_finds_the_same_blocks(model, cache, tiny_model: Path, tmp_path: Path) -> None:
    if model.card is None:
        pytest.skip("a model without a card has no files")
    cache.save(tmp_path / "doc.gfc")
    there = goldfinch.load_model(tiny_model, device="cuda", dtype=torch.float32)
    session = goldfinch.Session(there, goldfinch.open_cache(tmp_path / "doc.gfc", there), read="attention")
    for question in QUESTIONS:
        found = session.ask(question, max_tokens=3).usage.reading.found
        assert {f.block for f in found} == {f.block for f in finder(model, cache).best(question, len(found))}
