"""Perplexity and loss by place are those of the logits."""

from __future__ import annotations

import math

import pytest
import torch

import goldfinch
from goldfinch.evaluate.perplexity import evaluate_perplexity, evaluate_positions
from tests.goldfinch.evaluate.conftest import PROSE


def test_perplexity_of_a_model_that_knows_nothing() -> None:
    model = goldfinch.load_model()
    with torch.no_grad():
        model.head.weight.zero_()
    row = evaluate_perplexity(model, [PROSE], tokens=300, window=64)
    assert row["perplexity"] == pytest.approx(model.config.vocab_size, rel=1e-4)
    assert row["loss"] == pytest.approx(math.log(model.config.vocab_size), rel=1e-5)


def test_perplexity_is_that_of_the_logits(mini) -> None:
    ids = mini.tokenizer.encode(PROSE)[:65]
    logits, _ = mini(torch.tensor([[mini.card.template.bos_token_id, *ids]]))
    expected = torch.nn.functional.cross_entropy(logits[0, :-1], torch.tensor(ids))
    row = evaluate_perplexity(mini, [mini.tokenizer.decode(ids)], tokens=1000, window=65)
    assert row["tokens"] == 65
    assert row["loss"] == pytest.approx(float(expected), rel=1e-5)
    size = len(mini.tokenizer.decode(ids).encode())
    assert row["bits_per_byte"] == pytest.approx(65 * float(expected) / math.log(2) / size, rel=1e-5)


def test_loss_by_place_is_that_of_the_logits(mini) -> None:
    """Pieces of 1,024 tokens with the state carried over, cut at the edges of the ranges."""
    long, short = PROSE * 12, PROSE
    ids = [mini.card.template.bos_token_id, *mini.tokenizer.encode(long)][:1501]
    with torch.no_grad():
        logits, _ = mini(torch.tensor([ids]))
    losses = torch.nn.functional.cross_entropy(logits[0, :-1], torch.tensor(ids[1:]), reduction="none")
    rows = evaluate_positions(mini, [short, long], edges=(100, 1100, 1500), documents=1)
    assert [(row["until"], row["tokens"]) for row in rows] == [(100, 100), (1100, 1000), (1500, 400)]
    for row, part in zip(rows, losses.split([100, 1000, 400]), strict=True):
        assert row["loss"] == pytest.approx(float(part.mean()), rel=1e-4)
