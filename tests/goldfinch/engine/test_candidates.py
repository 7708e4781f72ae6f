"""Several candidates, one answer: decoded together, chosen by score and likelihood; likelihood and confidence."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import goldfinch
from goldfinch.engine.cite import cite
from goldfinch.errors import GoldFinchError
from goldfinch.policies import measured
from goldfinch.policies.base import Chosen
from goldfinch.text.prompt import document_token_ids
from tests.tolerances import BATCH_FP32

PLACES = ("Aberdeen", "Bristol", "Cardiff", "Dundee", "Exeter", "Falmouth")
FILLER = "It lies by the sea and has many streets, full of people on most days. " * 9
TEXT = "\n\n".join(f"{place} is known for its {place[::-1].lower()} trade. {FILLER}" for place in PLACES)
QUESTION = "What trade is Dundee known for?"


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> goldfinch.LanguageModel:
    return goldfinch.load_model(tiny_model)


@pytest.fixture(scope="module")
def cache(model: goldfinch.LanguageModel) -> goldfinch.DocumentCache:
    ids, span = document_token_ids(model, TEXT)
    return goldfinch.prefill(model, ids, document_range=span)


def record(folder: Path, model: goldfinch.LanguageModel, monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    """What was measured of the model."""
    row = {"least_tokens": 0, "policy": "lexical", "blocks": 1, "candidates": 3, "likelihood_weight": 0.0}
    monkeypatch.setattr(measured, "RECORDS", folder)
    path = folder / f"{model.card.model_fingerprint}.json"
    path.write_text(json.dumps({"rows": [row], **values}))


def one_by_one(model, cache, count: int) -> list[goldfinch.engine.answer.Answer]:
    found = goldfinch.Session(model, cache, read="lexical", read_blocks=count).reader.read(QUESTION).found
    sessions = [goldfinch.Session(model, cache, read=Chosen("lexical", (block,))) for block in found]
    return [session.ask(QUESTION, max_tokens=12) for session in sessions]


@pytest.mark.parametrize("weight", [0.0, 1e4, -1e4])
def test_the_best_of_those_that_each_block_gives_alone(weight: float, model, cache, tmp_path, monkeypatch) -> None:
    alone = one_by_one(model, cache, 3)
    record(tmp_path, model, monkeypatch)
    session = goldfinch.Session(model, cache)
    assert (session.reader.policy, session.reader.candidates) == ("lexical", 3)
    monkeypatch.setattr(session.reader, "_likelihood_weight", weight)
    values = [a.usage.reading.score + weight * math.log(a.usage.likelihood) for a in alone]
    expected = alone[values.index(max(values))]
    found = session.ask(QUESTION, max_tokens=12)
    assert found.token_ids == expected.token_ids
    assert found.usage.reading == expected.usage.reading == session.reader.read(QUESTION) == session.last_usage.reading
    assert found.usage.likelihood == pytest.approx(expected.usage.likelihood, rel=BATCH_FP32)
    assert "".join(session.stream(QUESTION, max_tokens=12)) == found.text
    assert goldfinch.ask_many(session, [QUESTION] * 5, max_tokens=12)[4].token_ids == found.token_ids
    block = found.usage.reading.found[0]
    assert [c.first_line for c in cite(session, QUESTION, found.token_ids)] == [block.first_line]
    assert [c.found == block for c in session.reader.explained(QUESTION) if c.read] == [True]


def test_the_weights_choose_differently(model, cache) -> None:
    """Else the test above would show nothing."""
    likelihoods = [a.usage.likelihood for a in one_by_one(model, cache, 3)]
    assert len({likelihoods.index(max(likelihoods)), likelihoods.index(min(likelihoods)), 0}) >= 2


def test_who_names_blocks_or_a_policy_gets_no_candidates(model, cache, tmp_path, monkeypatch) -> None:
    record(tmp_path, model, monkeypatch)
    assert goldfinch.Session(model, cache, read="lexical").reader.candidates == 1
    assert goldfinch.Session(model, cache, read_blocks=2).reader.candidates == 1
    assert len(goldfinch.Session(model, cache, read="lexical", candidates=2).reader.readings(QUESTION)) == 2


def test_what_cannot_be(model, cache) -> None:
    with pytest.raises(GoldFinchError, match="the number of candidates is 9, allowed: 1 to 8"):
        goldfinch.Session(model, cache, read="lexical", candidates=9)
    with pytest.raises(GoldFinchError, match="2 candidates of 3 blocks each, allowed: several of one of them"):
        goldfinch.Session(model, cache, read="lexical", read_blocks=3, candidates=2)


@torch.no_grad()
def test_the_likelihood_is_the_mean_over_the_tokens(model, cache) -> None:
    session = goldfinch.Session(model, cache, read="all")
    answer = session.ask(QUESTION, max_tokens=6)
    ids, terms = session.question_token_ids(QUESTION), []
    for n, token in enumerate(answer.token_ids):
        terms.append(float(session.start(ids + answer.token_ids[:n])[0].log_softmax(-1)[token]))
    assert len(terms) == 6
    assert answer.usage.likelihood == pytest.approx(math.exp(sum(terms) / 6), rel=1e-3)
    sampled = session.ask(QUESTION, max_tokens=6, temperature=2.0, seed=1)
    assert sampled.usage.likelihood < answer.usage.likelihood


def test_confidence_is_a_number_only_where_one_was_calibrated(model, cache, tmp_path, monkeypatch) -> None:
    assert goldfinch.Session(model, cache, read="lexical").ask(QUESTION, max_tokens=4).confidence is None
    given = {"auc": 0.8, "intercept": 0.5, "score_weight": -1.0, "likelihood_weight": 2.0}
    record(tmp_path, model, monkeypatch, confidence={"lexical": given, "all": {"auc": 0.5, "reason": "tells nothing"}})
    session = goldfinch.Session(model, cache, read="lexical")
    answer = session.ask(QUESTION, max_tokens=4)
    x = 0.5 - answer.usage.reading.score + 2 * math.log(answer.usage.likelihood)
    assert answer.confidence == pytest.approx(1 / (1 + math.exp(-x)))
    assert answer.confidence_reason is None
    raw = session.ask(QUESTION, max_tokens=4, raw=True)
    assert (raw.confidence, raw.confidence_reason) == (None, "text that goes on is no answer")
    whole = goldfinch.Session(model, cache, read="all").ask(QUESTION, max_tokens=4)
    assert (whole.confidence, whole.confidence_reason) == (None, "tells nothing")
    attention = goldfinch.Session(model, cache, read="attention").ask(QUESTION, max_tokens=4)
    assert attention.confidence is None
    assert "the reading policy 'attention'" in attention.confidence_reason


@pytest.mark.gpu
def test_a_gpu_chooses_among_the_same_candidates(model, cache, tiny_model: Path, tmp_path: Path) -> None:
    cache.save(tmp_path / "doc.gfc")
    there = goldfinch.load_model(tiny_model, device="cuda", dtype=torch.float32)
    session = goldfinch.Session(there, goldfinch.open_cache(tmp_path / "doc.gfc", there), read="lexical", candidates=3)
    found, here = session.ask(QUESTION, max_tokens=6), one_by_one(model, cache, 3)
    assert found.usage.reading in [answer.usage.reading for answer in here]
    assert 0 < found.usage.likelihood < 1
